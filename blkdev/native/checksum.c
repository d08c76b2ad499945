/* Checksums of records and fingerprints of keys. */
#include "native.h"

static uint32_t crc_table[16][256];

void make_crc_table(void)
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

/* CRC-32 as zlib's, 16 bytes a step (slicing, Kounavis & Berry 2005). */
uint32_t crc32_of(uint32_t crc, const uint8_t *data, size_t length)
{
    uint32_t words[4];
    crc = ~crc;
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
    return ~crc;
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

