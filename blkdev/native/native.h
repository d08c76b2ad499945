/* The engine's inner loops in C. Optional: without a compiler the same is done in Python.
 *
 *   crc32    as zlib's, several times as fast
 *   guard    a read error under a map becomes a count instead of the end of the process
 *   Maps     maps of a device, which exist only where they are guarded
 *   Index    the shards of blkdev/index.py, slot for slot the same arrays
 *   stage    new small blocks into the staged group, many per call
 *   scan     the entries of a group that is whole
 *   enter    new blocks of the log into the index, many per call
 *   verify   the checksums of a whole group at once
 *   Finder   from a key to its value or size with one read, when nothing is out of the ordinary
 *   View     from a key to its value without a copy, likewise; compared with its hash, if wanted
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
#include <sys/uio.h>

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
#define OTHER_KIND (UINT64_C(1) << 63)
#define KIND_BLOCK 1
#define KIND_MAX 6
#define HEAD_SIZE 24
#define GROUP_HEADER_SIZE 64
#define KEY_MAX 64
#define FOOTER_SIZE 64
#define READ_MAX (64 << 10)

typedef struct {
    uint64_t fingerprint, location;
} Slot;

typedef struct {
    Slot *slots; /* NULL: put off, nobody has asked for it yet */
    Py_ssize_t homes, used;
} Shard;

typedef struct {
    PyObject_HEAD
    Py_ssize_t count, size_bytes, pin_room;
    uint32_t *pins; /* by slot of the device; beyond `pin_room` all are zero */
    Shard shards[SHARDS];
} Index;

typedef struct Window Window;

typedef struct {
    PyObject_HEAD
    Window **windows; /* by number modulo `count` */
    Py_ssize_t count, mapped_bytes, most;
    uint64_t owner, end, window_size;
    int descriptor, can_populate;
} Maps;

typedef struct {
    PyObject_HEAD
    Index *index;
    Maps *maps;
    PyObject *reader, *log, *catalog;
    unsigned long long salt, first_offset, segment_size, before_middle, after_offset;
    unsigned int seed;
    int descriptor, verify;
} Finder;

/* checksum.c: CRC-32 as zlib's, with the processor's carry-less multiplication where it has one. */
void prepare_checksums(void);
PyObject *checksum(PyObject *module, PyObject *args);
uint32_t crc32_of(uint32_t crc, const uint8_t *data, size_t length);
uint64_t fingerprint_of(const uint8_t *key, size_t length, uint64_t salt);

/* index.c: 0 with an exception set, and nothing changed, when memory is short. */
int index_add(Index *index, uint64_t fingerprint, uint64_t location);
/* Keep the segment of a record that is in the index as it is; 0 when it is not there, -1 when memory
 * is short, without an exception. */
int index_pin(Index *index, Slot entry);
void index_unpin(Index *index, uint64_t location);
extern PyTypeObject IndexType;

/* stage.c */
PyObject *stage(PyObject *module, PyObject *args);

/* replay.c */
PyObject *scan(PyObject *module, PyObject *args);
PyObject *enter(PyObject *module, PyObject *args);

/* verify.c */
PyObject *verify_group(PyObject *module, PyObject *args);
PyObject *count_alive(PyObject *module, PyObject *args);

/* guard.c: ranges of memory where a read error is zeros and a count; 0 when there is no room for one
 * more. `owner` and `end` say whose they are and where on its device they end. */
int guard_add(const void *address, size_t length, uint64_t owner, uint64_t end);
void guard_remove(const void *address); /* before it is unmapped */
uint64_t guard_end(uint64_t owner);     /* of all that is in use; 0 when nothing is */
unsigned long long guard_faults(void);
PyObject *fault_count(PyObject *module, PyObject *unused);

/* maps.c */
extern PyTypeObject MapsType;
int prepare_maps(void);
/* The window with this range, which begins `skip` bytes into it; a new reference. NULL without an
 * exception: read the range instead. */
Window *maps_reach(Maps *maps, uint64_t offset, size_t length, size_t *skip);
/* Bring the range into memory and the map, without the interpreter's lock; 0: read it instead. */
int maps_fill(Maps *maps, Window *window, size_t skip, size_t length);
/* Copy what is mapped already, likewise; 0: read it instead. */
int maps_copy(Maps *maps, uint64_t offset, const struct iovec *parts, int count);
const uint8_t *window_at(const Window *window, size_t skip);
/* Whether all it showed so far was on the device. */
int window_is_true(const Window *window);
/* Whether this was asked about that page before. */
int window_saw(Window *window, size_t skip);

/* finder.c */
extern PyTypeObject FinderType;
int prepare_finder(void);
/* 1: exactly one record has the key's fingerprint, written and, unless `damaged_too`, not known to be
 * damaged. 0: none has. -1: ask Python. */
int locate(Finder *finder, PyObject *key, Slot *entry, int damaged_too);
uint64_t offset_of(const Finder *finder, uint64_t location);
/* Whether a header and key as read are those of this key's block. */
int confirms(const Finder *finder, const uint8_t *head, PyObject *key);
PyObject *finder_value(Finder *finder, PyObject *key);

/* view.c */
extern PyTypeObject ViewType;
int prepare_view(void);
PyObject *finder_view(Finder *finder, PyObject *key);
PyObject *finder_checked_view(Finder *finder, PyObject *const *args, Py_ssize_t given);

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

/* The first slot whose fingerprint is not smaller; the shard was not put off. */
static inline Slot *first_slot(const Shard *shard, uint64_t fingerprint)
{
    Slot *slot = shard->slots + home_of(fingerprint, shard->homes);
    while (slot->fingerprint < fingerprint)
        slot++;
    return slot;
}

static inline Slot *find_slot(const Index *index, uint64_t fingerprint, uint64_t location)
{
    const Shard *shard = &index->shards[fingerprint >> SHARD_SHIFT];
    if (shard->slots == NULL)
        return NULL;
    Slot *slot = first_slot(shard, fingerprint);
    while (slot->fingerprint == fingerprint && slot->location != location)
        slot++;
    return slot->fingerprint == fingerprint ? slot : NULL;
}

/* Whether no record has the fingerprint; 0 also where that cannot be told without Python. */
static inline int is_new(const Index *index, uint64_t fingerprint)
{
    const Shard *shard = &index->shards[fingerprint >> SHARD_SHIFT];
    return shard->slots != NULL && first_slot(shard, fingerprint)->fingerprint != fingerprint;
}

static inline uint64_t slot_of(uint64_t location)
{
    return location >> OFFSET_BITS & ((1 << SLOT_BITS) - 1);
}

static inline size_t size_of(uint64_t location)
{
    return (location >> SIZE_SHIFT & SIZE_MASK) << 3;
}

#endif
