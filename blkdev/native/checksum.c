/* Checksums of records and fingerprints of keys. */
#include "native.h"

#define UNLOCKED_MIN (32 << 10) /* what is shorter is done before another thread had its turn */

static uint32_t crc_table[16][256];

static void make_crc_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? UINT32_C(0xEDB88320) : 0);
        crc_table[0][byte] = value;
    }
    for (int table = 1; table < 16; table++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t value = crc_table[table - 1][byte];
            crc_table[table][byte] = value >> 8 ^ crc_table[0][value & 255];
        }
}

/* The register after these bytes, 16 a step (slicing, Kounavis & Berry 2005). */
static uint32_t by_tables(uint32_t crc, const uint8_t *data, size_t length)
{
    uint32_t words[4];
    for (; length >= 16; data += 16, length -= 16) {
        memcpy(words, data, 16);
        words[0] ^= crc;
        crc = 0;
        for (int word = 0; word < 4; word++)
            for (int byte = 0; byte < 4; byte++)
                crc ^= crc_table[15 - 4 * word - byte][words[word] >> 8 * byte & 255];
    }
    for (; length; data++, length--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *data) & 255];
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>
#define FOLDED_MIN 128 /* what is shorter gains nothing */

/* `block` moved on past as many bits as `by` stands for, and `data` added (Gopal et al. 2009, "Fast
 * CRC Computation Using PCLMULQDQ"): the CRC of all that follows stays the same. */
__attribute__((target("pclmul"))) static inline __m128i fold(__m128i block, __m128i by,
                                                             __m128i data)
{
    __m128i low = _mm_clmulepi64_si128(block, by, 0x00);
    __m128i high = _mm_clmulepi64_si128(block, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), data);
}

static inline __m128i load_block(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)at);
}

/* As `by_tables`, for at least 64 bytes. */
__attribute__((target("pclmul"))) static uint32_t by_folding(uint32_t crc, const uint8_t *data,
                                                             size_t length)
{
    /* x^(512 + 32), x^(512 - 32) and x^(128 + 32), x^(128 - 32) mod P, bits reversed. */
    const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
    const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    __m128i blocks[4], last;
    for (int number = 0; number < 4; number++)
        blocks[number] = load_block(data + 16 * number);
    blocks[0] = _mm_xor_si128(blocks[0], _mm_cvtsi32_si128((int)crc));
    for (data += 64, length -= 64; length >= 64; data += 64, length -= 64)
        for (int number = 0; number < 4; number++)
            blocks[number] = fold(blocks[number], by_64, load_block(data + 16 * number));
    last = blocks[0];
    for (int number = 1; number < 4; number++)
        last = fold(last, by_16, blocks[number]);
    for (; length >= 16; data += 16, length -= 16)
        last = fold(last, by_16, load_block(data));
    uint8_t rest[16];
    memcpy(rest, &last, 16);
    return by_tables(by_tables(0, rest, 16), data, length);
}

static int can_fold(void)
{
    return __builtin_cpu_supports("pclmul");
}
#else
#define FOLDED_MIN SIZE_MAX
#define by_folding by_tables
static int can_fold(void)
{
    return 0;
}
#endif

static int folds;

void prepare_checksums(void)
{
    make_crc_table();
    folds = can_fold();
}

/* CRC-32 as zlib's. */
uint32_t crc32_of(uint32_t crc, const uint8_t *data, size_t length)
{
    if (folds && length >= FOLDED_MIN)
        return ~by_folding(~crc, data, length);
    return ~by_tables(~crc, data, length);
}

/* crc32(data, value=0, /): as zlib.crc32. */
PyObject *checksum(PyObject *module, PyObject *args)
{
    Py_buffer data;
    unsigned int value = 0;
    if (!PyArg_ParseTuple(args, "y*|I", &data, &value))
        return NULL;
    if (data.len >= UNLOCKED_MIN) {
        Py_BEGIN_ALLOW_THREADS
        value = crc32_of(value, data.buf, (size_t)data.len);
        Py_END_ALLOW_THREADS
    } else
        value = crc32_of(value, data.buf, (size_t)data.len);
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(value);
}

uint64_t fingerprint_of(const uint8_t *key, size_t length, uint64_t salt)
{
    uint64_t tail = 0;
    if (length >= 8)
        tail = load_u64(key + length - 8);
    else
        memcpy(&tail, key, length);
    uint64_t mixed = ((tail ^ salt) + crc32_of(0, key, length) * SPREAD_SUM) * SPREAD_TAIL;
    return mixed != EMPTY ? mixed : 0;
}

