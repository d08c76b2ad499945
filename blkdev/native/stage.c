/* Staging: many new small blocks in one call. What it means: blkdev/log.py. */
#include "native.h"

static Py_ssize_t aligned(Py_ssize_t size)
{
    return (size + PAGE - 1) & -PAGE;
}

/* Header and key of a block's record at `at`, which has room for them; their length. */
static Py_ssize_t write_head(uint8_t *at, const uint8_t *key, Py_ssize_t key_size,
                             const uint8_t *value, Py_ssize_t value_size, uint64_t sequence,
                             uint32_t seed)
{
    uint16_t key_field = (uint16_t)key_size;
    uint32_t value_field = (uint32_t)value_size, value_sum = crc32_of(0, value, value_size), sum;
    at[4] = KIND_BLOCK;
    at[5] = 0; /* no transform */
    memcpy(at + 6, &key_field, 2);
    memcpy(at + 8, &value_field, 4);
    memcpy(at + 12, &value_sum, 4);
    memcpy(at + 16, &sequence, 8);
    memcpy(at + HEAD_SIZE, key, key_size);
    sum = crc32_of(seed, at + 4, HEAD_SIZE - 4 + key_size);
    memcpy(at, &sum, 4);
    return HEAD_SIZE + key_size;
}

typedef struct {
    Index *index;
    PyObject *staged, *chunk;
    unsigned long long salt, sequence, place;
    unsigned int seed, checksum;
    Py_ssize_t segment_end, pending, entries, segment_size, staged_max, value_max;
    Py_ssize_t total;
} Group;

/* Whether an item is a new, small block that fits; then its fingerprint and size on the device. */
static int is_plain(const Group *group, PyObject *item, uint64_t *fingerprint, Py_ssize_t *size)
{
    if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 2)
        return 0;
    PyObject *key = PyTuple_GET_ITEM(item, 0), *value = PyTuple_GET_ITEM(item, 1);
    if (!PyBytes_CheckExact(key) || !PyBytes_CheckExact(value))
        return 0;
    Py_ssize_t key_size = PyBytes_GET_SIZE(key), value_size = PyBytes_GET_SIZE(value);
    if (key_size < 1 || key_size > KEY_MAX || value_size > group->value_max)
        return 0;
    *size = (HEAD_SIZE + key_size + value_size + 7) & -8;
    Py_ssize_t groups_end = group->segment_end + aligned(group->pending + *size);
    Py_ssize_t summary = aligned((group->entries + 1) * (Py_ssize_t)sizeof(Slot) + FOOTER_SIZE);
    if (group->pending >= group->staged_max || groups_end + summary > group->segment_size)
        return 0;
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(key);
    *fingerprint = fingerprint_of(bytes, key_size, group->salt);
    return is_new(group->index, *fingerprint);
}

/* Whether the items are plain from number `at` to the last, one after the other. Two of them may have
 * one fingerprint: who asks knows that their keys differ. */
static int all_plain(Group group, PyObject *items, Py_ssize_t at)
{
    uint64_t fingerprint;
    Py_ssize_t size;
    for (; at < PyList_GET_SIZE(items); at++, group.pending += size, group.entries++)
        if (!is_plain(&group, PyList_GET_ITEM(items, at), &fingerprint, &size))
            return 0;
    return 1;
}

/* 0 with an exception set, and nothing changed, when memory is short. */
static int stage_one(Group *group, PyObject *item, Slot entry, Py_ssize_t size)
{
    PyObject *key = PyTuple_GET_ITEM(item, 0), *value = PyTuple_GET_ITEM(item, 1);
    Py_ssize_t before = PyByteArray_GET_SIZE(group->chunk), value_size = PyBytes_GET_SIZE(value);
    PyObject *head = NULL, *pair = NULL, *location = PyLong_FromUnsignedLongLong(entry.location);
    int done = 0;
    if (location == NULL || PyByteArray_Resize(group->chunk, before + size) < 0)
        goto end;
    uint8_t *at = (uint8_t *)PyByteArray_AS_STRING(group->chunk) + before;
    const uint8_t *content = (const uint8_t *)PyBytes_AS_STRING(value);
    Py_ssize_t head_size = write_head(at, (const uint8_t *)PyBytes_AS_STRING(key),
                                      PyBytes_GET_SIZE(key), content, value_size,
                                      group->sequence, group->seed);
    memcpy(at + head_size, content, value_size);
    memset(at + head_size + value_size, 0, size - head_size - value_size);
    head = PyBytes_FromStringAndSize((const char *)at, head_size);
    pair = head == NULL ? NULL : PyTuple_Pack(2, head, value);
    if (pair != NULL && PyDict_SetItem(group->staged, location, pair) == 0) {
        done = index_add(group->index, entry.fingerprint, entry.location);
        if (!done)
            PyDict_DelItem(group->staged, location);
    }
    if (done)
        group->checksum = crc32_of(group->checksum, at, head_size);
    else
        PyByteArray_Resize(group->chunk, before);
end:
    Py_XDECREF(head);
    Py_XDECREF(pair);
    Py_XDECREF(location);
    return done;
}

PyObject *stage(PyObject *module, PyObject *args)
{
    Group group = {0};
    PyObject *items;
    Py_ssize_t at;
    int together;
    if (!PyArg_ParseTuple(args, "O!O!O!O!npKIIKKnnnnnn", &IndexType, &group.index, &PyDict_Type,
                          &group.staged, &PyByteArray_Type, &group.chunk, &PyList_Type, &items,
                          &at, &together, &group.salt, &group.seed, &group.checksum, &group.sequence,
                          &group.place, &group.segment_end, &group.pending, &group.entries,
                          &group.segment_size, &group.staged_max, &group.value_max))
        return NULL;
    PyObject *entries = PyBytes_FromStringAndSize(NULL, 0);
    Py_ssize_t room = 0, made = 0;
    int may = !together || all_plain(group, items, at);
    for (; may && entries != NULL && at < PyList_GET_SIZE(items); at++, made++) {
        Slot entry;
        Py_ssize_t size;
        PyObject *item = PyList_GET_ITEM(items, at);
        if (!is_plain(&group, item, &entry.fingerprint, &size) && !together)
            break;
        if (made == room) {
            room = room ? 2 * room : 64;
            if (_PyBytes_Resize(&entries, room * (Py_ssize_t)sizeof(Slot)) < 0)
                break;
        }
        entry.location = (uint64_t)(size >> 3) << SIZE_SHIFT | group.place |
                         (uint64_t)(group.segment_end + group.pending) >> 3;
        if (!stage_one(&group, item, entry, size))
            break;
        memcpy(PyBytes_AS_STRING(entries) + made * sizeof(Slot), &entry, sizeof(Slot));
        group.pending += size;
        group.total += size;
        group.entries++;
        group.sequence++;
    }
    if (entries == NULL || (PyErr_Occurred() && (together || made == 0))) {
        Py_XDECREF(entries);
        return NULL;
    }
    PyErr_Clear(); /* short memory stops the next call at its first item */
    if (_PyBytes_Resize(&entries, made * (Py_ssize_t)sizeof(Slot)) < 0)
        return NULL;
    return Py_BuildValue("nNIn", at, entries, group.checksum, group.total);
}

