/* The engine's inner loops in C. Optional: without a compiler the same is done in Python.
 *
 *   crc32    as zlib's, several times as fast
 *   guard    a read error under a map becomes a count instead of the end of the process
 *   Index    the shards of blkdev/index.py, slot for slot the same arrays
 *   stage    new small blocks into the staged group, many per call
 *   Finder   from a key to its value or size with one read, when nothing is out of the ordinary
 *
 * Invariants
 * - Nothing is decided here that Python does not decide the same way. Whatever is not the plain case
 *   (a fingerprint that is there already, a staged record, a checksum that does not fit, an error of
 *   the device) is handed back untouched.
 * - The interpreter's lock guards the index; it is let go for reading the device only, and what was
 *   read counts only if its record is still in the index afterwards.
 * - The last slot of a shard is always empty, so no probe runs past the end, whatever a checkpoint held.
 *
 * Byte order: little-endian machines only; elsewhere the import fails and Python takes over.
 */
#ifndef BLKDEV_NATIVE_H
#define BLKDEV_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define _FILE_OFFSET_BITS 64
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#define SHARDS 256
#define SHARD_SHIFT 56
#define HOME_SHIFT 24
#define HOMES_MIN 2
#define EMPTY UINT64_MAX
#define LOAD_NUMERATOR 4 /* at most 4 of 5 homes are used */
#define LOAD_DENOMINATOR 5
#define SPREAD_TAIL UINT64_C(0x9E3779B97F4A7C15)
#define SPREAD_SUM UINT64_C(0xD6E8FEB86659FD93)

#define PAGE 4096
#define OFFSET_BITS 23
#define SLOT_BITS 20
#define SIZE_SHIFT (OFFSET_BITS + SLOT_BITS)
#define SIZE_MASK ((UINT64_C(1) << 20) - 1)
#define KIND_BLOCK 1
#define HEAD_SIZE 24
#define KEY_MAX 64
#define FOOTER_SIZE 64
#define READ_MAX (64 << 10)

typedef struct {
    uint64_t fingerprint, location;
} Slot;

typedef struct {
    Slot *slots;
    Py_ssize_t homes, used;
} Shard;

typedef struct {
    PyObject_HEAD
    Py_ssize_t count, size_bytes;
    Shard shards[SHARDS];
} Index;

/* checksum.c: CRC-32 as zlib's, with the processor's carry-less multiplication where it has one. */
void prepare_checksums(void);
PyObject *checksum(PyObject *module, PyObject *args);
uint32_t crc32_of(uint32_t crc, const uint8_t *data, size_t length);
uint64_t fingerprint_of(const uint8_t *key, size_t length, uint64_t salt);

/* index.c: 0 with an exception set, and nothing changed, when memory is short. */
int index_add(Index *index, uint64_t fingerprint, uint64_t location);
extern PyTypeObject IndexType;

/* stage.c */
PyObject *stage(PyObject *module, PyObject *args);

/* guard.c */
PyObject *guard(PyObject *module, PyObject *args);
PyObject *unguard(PyObject *module, PyObject *argument);
PyObject *fault_count(PyObject *module, PyObject *unused);

/* finder.c */
extern PyTypeObject FinderType;
int prepare_finder(void);

static inline uint64_t load_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static inline uint32_t load_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static inline Py_ssize_t slot_count(Py_ssize_t homes)
{
    return homes + 6 + (homes >> 6);
}

static inline Py_ssize_t home_of(uint64_t fingerprint, Py_ssize_t homes)
{
    return (Py_ssize_t)((fingerprint >> HOME_SHIFT & UINT32_MAX) * (uint64_t)homes >> 32);
}

/* The first slot whose fingerprint is not smaller. */
static inline Slot *first_slot(const Shard *shard, uint64_t fingerprint)
{
    Slot *slot = shard->slots + home_of(fingerprint, shard->homes);
    while (slot->fingerprint < fingerprint)
        slot++;
    return slot;
}

static inline Slot *find_slot(const Index *index, uint64_t fingerprint, uint64_t location)
{
    Slot *slot = first_slot(&index->shards[fingerprint >> SHARD_SHIFT], fingerprint);
    while (slot->fingerprint == fingerprint && slot->location != location)
        slot++;
    return slot->fingerprint == fingerprint ? slot : NULL;
}

#endif
