/* Replaying the log. What it means: read_entries in blkdev/segment.py, enter in blkdev/recovery/recover.py. */
#include "native.h"

typedef struct {
    const uint8_t *bytes;
    Py_ssize_t length, size, slot, offset;
    unsigned long long salt;
    unsigned int count, checksum, seed;
    int verify;
} Group;

/* The size on the device of the record at `at`, 0 for one that is damaged, odd or of a newer kind. */
static Py_ssize_t check_record(const Group *group, Py_ssize_t at)
{
    Py_ssize_t left = group->length - at;
    if (left < HEAD_SIZE)
        return 0;
    const uint8_t *head = group->bytes + at;
    uint16_t key_field;
    memcpy(&key_field, head + 6, 2);
    Py_ssize_t head_size = HEAD_SIZE + key_field;
    if (left < head_size || crc32_of(group->seed, head + 4, head_size - 4) != load_u32(head))
        return 0;
    if (head[4] < KIND_BLOCK || head[4] > KIND_MAX || head[5] != 0)
        return 0;
    if (load_u32(head + 8) > (uint64_t)(left - head_size))
        return 0;
    Py_ssize_t value_size = load_u32(head + 8);
    if (group->verify && crc32_of(0, head + head_size, value_size) != load_u32(head + 12))
        return 0;
    Py_ssize_t size = (head_size + value_size + 7) & -8;
    uint64_t end = (uint64_t)(group->offset + at) >> 3;
    return (uint64_t)size >> 3 <= SIZE_MASK && end >> OFFSET_BITS == 0 ? size : 0;
}

/* One entry for each record; 0 unless the group is whole. */
static int scan_group(const Group *group, char *entries)
{
    Py_ssize_t at = GROUP_HEADER_SIZE;
    uint32_t checksum = group->seed;
    for (unsigned int number = 0; number < group->count; number++) {
        Py_ssize_t size = check_record(group, at);
        const uint8_t *head = group->bytes + at;
        uint16_t key_size;
        if (size == 0)
            return 0;
        memcpy(&key_size, head + 6, 2);
        checksum = crc32_of(checksum, head, HEAD_SIZE + key_size);
        uint64_t location = (uint64_t)size >> 3 << SIZE_SHIFT | (uint64_t)group->slot << OFFSET_BITS |
                            (uint64_t)(group->offset + at) >> 3;
        Slot entry = {EMPTY, location | OTHER_KIND};
        if (head[4] == KIND_BLOCK)
            entry = (Slot){fingerprint_of(head + HEAD_SIZE, key_size, group->salt), location};
        memcpy(entries + number * sizeof(Slot), &entry, sizeof(Slot));
        at += size;
    }
    return checksum == group->checksum && at == group->size;
}

/* scan(group, size, slot, offset, record count, checksum, salt, seed, verify): entries, or None. */
PyObject *scan(PyObject *module, PyObject *args)
{
    Group group = {0};
    Py_buffer packed;
    if (!PyArg_ParseTuple(args, "y*nnnIIKIp", &packed, &group.size, &group.slot, &group.offset,
                          &group.count, &group.checksum, &group.salt, &group.seed, &group.verify))
        return NULL;
    group.bytes = packed.buf;
    group.length = packed.len;
    PyObject *entries = NULL;
    int whole = group.slot >= 0 && group.slot >> SLOT_BITS == 0 && group.offset >= 0 &&
                group.offset >> OFFSET_BITS <= 7 && group.count <= group.length / HEAD_SIZE;
    if (whole)
        entries = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)group.count * (Py_ssize_t)sizeof(Slot));
    if (entries != NULL) {
        char *made = PyBytes_AS_STRING(entries);
        Py_BEGIN_ALLOW_THREADS
        whole = scan_group(&group, made);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&packed);
    if (whole)
        return entries;
    Py_XDECREF(entries);
    Py_RETURN_NONE;
}

/* enter(index, entries, at, slot): (the entry it stopped at, bytes of the blocks before that). */
PyObject *enter(PyObject *module, PyObject *args)
{
    Index *index;
    Py_buffer entries;
    Py_ssize_t at, slot, size_bytes = 0;
    if (!PyArg_ParseTuple(args, "O!y*nn", &IndexType, &index, &entries, &at, &slot))
        return NULL;
    const uint8_t *bytes = entries.buf;
    int done = 1;
    for (; at >= 0 && at < entries.len / (Py_ssize_t)sizeof(Slot); at++) {
        Slot entry = {load_u64(bytes + at * sizeof(Slot)), load_u64(bytes + at * sizeof(Slot) + 8)};
        uint64_t place = entry.location >> OFFSET_BITS & ((UINT64_C(1) << SLOT_BITS) - 1);
        if (entry.location & OTHER_KIND || entry.location == 0 || entry.fingerprint == EMPTY ||
            place != (uint64_t)slot || !is_new(index, entry.fingerprint))
            break;
        done = index_add(index, entry.fingerprint, entry.location);
        if (!done)
            break;
        size_bytes += (Py_ssize_t)(entry.location >> SIZE_SHIFT & SIZE_MASK) << 3;
    }
    PyBuffer_Release(&entries);
    return done ? Py_BuildValue("nn", at, size_bytes) : NULL;
}
