/* Reading a record that is on the device. What it means: blkdev/reader.py. */
#include "native.h"

#include <errno.h>

static PyObject *staged_name, *damaged_name;

#define SLOW Py_NewRef(Py_NotImplemented)

/* Whether what the owner has under that name holds the location; also when it cannot be told. */
static int is_in(PyObject *owner, PyObject *name, uint64_t location)
{
    int found = -1;
    PyObject *held = PyObject_GetAttr(owner, name);
    Py_ssize_t size = held == NULL ? -1 : PyObject_Size(held);
    if (size == 0)
        found = 0;
    PyObject *number = size > 0 ? PyLong_FromUnsignedLongLong(location) : NULL;
    if (number != NULL)
        found = PySequence_Contains(held, number);
    Py_XDECREF(number);
    Py_XDECREF(held);
    if (found < 0)
        PyErr_Clear();
    return found != 0;
}

int locate(Finder *self, PyObject *key, Slot *entry, int damaged_too)
{
    if (!PyBytes_CheckExact(key) || PyBytes_GET_SIZE(key) > KEY_MAX || self->descriptor < 0)
        return -1;
    entry->fingerprint = fingerprint_of((const uint8_t *)PyBytes_AS_STRING(key),
                                        PyBytes_GET_SIZE(key), self->salt);
    const Shard *shard = &self->index->shards[entry->fingerprint >> SHARD_SHIFT];
    if (shard->slots == NULL)
        return -1;
    Slot *slot = first_slot(shard, entry->fingerprint);
    if (slot->fingerprint != entry->fingerprint)
        return 0;
    if (slot[1].fingerprint == entry->fingerprint)
        return -1;
    entry->location = slot->location;
    if (is_in(self->log, staged_name, entry->location))
        return -1;
    return damaged_too || !is_in(self->catalog, damaged_name, entry->location) ? 1 : -1;
}

uint64_t offset_of(const Finder *self, uint64_t location)
{
    uint64_t slot = slot_of(location), offset = (location & ((1 << OFFSET_BITS) - 1)) << 3;
    return offset + slot * self->segment_size +
           (slot < self->before_middle ? self->first_offset : self->after_offset);
}

/* Read into both parts without the interpreter's lock; 0 when the device does not give all. */
static int read_parts(Finder *self, uint64_t location, uint64_t skip, struct iovec *parts, int count)
{
    uint64_t offset = offset_of(self, location) + skip;
    ssize_t wanted = 0, got;
    if (maps_copy(self->maps, offset, parts, count))
        return 1;
    for (int part = 0; part < count; part++)
        wanted += parts[part].iov_len;
    Py_BEGIN_ALLOW_THREADS
    do
        got = preadv(self->descriptor, parts, count, (off_t)offset);
    while (got < 0 && errno == EINTR);
    Py_END_ALLOW_THREADS
    return got == wanted;
}

int confirms(const Finder *self, const uint8_t *head, PyObject *key)
{
    Py_ssize_t key_size = PyBytes_GET_SIZE(key);
    uint16_t key_field;
    memcpy(&key_field, head + 6, 2);
    return head[4] == KIND_BLOCK && head[5] == 0 && key_field == key_size &&
           memcmp(head + HEAD_SIZE, PyBytes_AS_STRING(key), key_size) == 0 &&
           crc32_of(self->seed, head + 4, HEAD_SIZE - 4 + key_size) == load_u32(head);
}

static int still_there(const Finder *self, Slot entry)
{
    return find_slot(self->index, entry.fingerprint, entry.location) != NULL;
}

/* Others may run while a large value is summed up; nobody else has the bytes yet. */
static int is_whole(const uint8_t *value, uint32_t size, uint32_t checksum)
{
    uint32_t found;
    if (size <= READ_MAX)
        return crc32_of(0, value, size) == checksum;
    Py_BEGIN_ALLOW_THREADS
    found = crc32_of(0, value, size);
    Py_END_ALLOW_THREADS
    return found == checksum;
}

PyObject *finder_value(Finder *self, PyObject *key)
{
    Slot entry;
    uint8_t head[HEAD_SIZE + KEY_MAX];
    int found = locate(self, key, &entry, 0);
    if (found == 0)
        Py_RETURN_NONE;
    Py_ssize_t head_size = found < 0 ? 0 : HEAD_SIZE + PyBytes_GET_SIZE(key);
    Py_ssize_t room = found < 0 ? 0 : (Py_ssize_t)size_of(entry.location) - head_size;
    if (found < 0 || room < 0)
        return SLOW;
    PyObject *value = PyBytes_FromStringAndSize(NULL, room);
    if (value == NULL)
        return NULL;
    uint8_t *content = (uint8_t *)PyBytes_AS_STRING(value);
    struct iovec parts[2] = {{head, head_size}, {content, room}};
    if (!read_parts(self, entry.location, 0, parts, 2) || !confirms(self, head, key) ||
        load_u32(head + 8) > (uint32_t)room || !still_there(self, entry) ||
        (self->verify && !is_whole(content, load_u32(head + 8), load_u32(head + 12)))) {
        Py_DECREF(value);
        return SLOW;
    }
    if (load_u32(head + 8) != (uint32_t)room)
        _PyBytes_Resize(&value, load_u32(head + 8));
    return value;
}

/* 1: there, with its header and key in `head`. 0: not there. -1: ask Python. */
static int read_head(Finder *self, PyObject *key, Slot *entry, uint8_t *head, int damaged_too)
{
    int found = locate(self, key, entry, damaged_too);
    if (found != 1)
        return found;
    struct iovec part = {head, HEAD_SIZE + PyBytes_GET_SIZE(key)};
    int is_it = read_parts(self, entry->location, 0, &part, 1) && confirms(self, head, key);
    return is_it && still_there(self, *entry) ? 1 : -1;
}

static PyObject *finder_size(Finder *self, PyObject *key)
{
    Slot entry;
    uint8_t head[HEAD_SIZE + KEY_MAX];
    int found = read_head(self, key, &entry, head, 1);
    if (found == 0)
        Py_RETURN_NONE;
    return found < 0 ? SLOW : PyLong_FromUnsignedLong(load_u32(head + 8));
}

static PyObject *finder_has(Finder *self, PyObject *key)
{
    Slot entry;
    uint8_t head[HEAD_SIZE + KEY_MAX];
    int found = read_head(self, key, &entry, head, 0);
    return found < 0 ? SLOW : PyBool_FromLong(found);
}

/* Where the key's record is, if its sequence is not above a limit: what a deletion has to know. */
static PyObject *finder_location(Finder *self, PyObject *const *args, Py_ssize_t given)
{
    Slot entry;
    uint8_t head[HEAD_SIZE + KEY_MAX];
    if (given != 2) {
        PyErr_SetString(PyExc_TypeError, "key and limit are wanted");
        return NULL;
    }
    uint64_t limit = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    int found = read_head(self, args[0], &entry, head, 1);
    if (found < 0)
        return SLOW;
    if (found == 0 || load_u64(head + 16) > limit)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(entry.location);
}

/* Two reads: one that confirms the key, one of exactly what is wanted. Not checked against a sum. */
static PyObject *finder_part(Finder *self, PyObject *const *args, Py_ssize_t given)
{
    Slot entry;
    uint8_t head[HEAD_SIZE + KEY_MAX];
    if (given != 3) {
        PyErr_SetString(PyExc_TypeError, "key, start and length are wanted");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]), length = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    int found = start < 0 || length < 0 ? -1 : locate(self, args[0], &entry, 0);
    if (found == 0)
        Py_RETURN_NONE;
    if (found < 0)
        return SLOW;
    struct iovec part = {head, HEAD_SIZE + PyBytes_GET_SIZE(args[0])};
    if (!read_parts(self, entry.location, 0, &part, 1) || !confirms(self, head, args[0]))
        return SLOW;
    Py_ssize_t left = (Py_ssize_t)load_u32(head + 8) - start;
    length = left < length ? (left > 0 ? left : 0) : length;
    PyObject *value = PyBytes_FromStringAndSize(NULL, length);
    if (value == NULL)
        return NULL;
    uint64_t skip = part.iov_len + start;
    part = (struct iovec){PyBytes_AS_STRING(value), length};
    if ((length && !read_parts(self, entry.location, skip, &part, 1)) ||
        !still_there(self, entry)) {
        Py_DECREF(value);
        return SLOW;
    }
    return value;
}

static PyObject *finder_close(Finder *self, PyObject *unused)
{
    self->descriptor = -1;
    Py_RETURN_NONE;
}

static PyObject *finder_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *reader, *index, *log, *catalog, *maps;
    Finder *self = (Finder *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (!PyArg_ParseTuple(args, "OO!OOO!ipKIKKKK", &reader, &IndexType, &index, &log, &catalog,
                          &MapsType, &maps, &self->descriptor, &self->verify, &self->salt,
                          &self->seed, &self->first_offset, &self->segment_size,
                          &self->before_middle, &self->after_offset)) {
        Py_DECREF(self);
        return NULL;
    }
    self->reader = Py_NewRef(reader);
    self->index = (Index *)Py_NewRef(index);
    self->log = Py_NewRef(log);
    self->catalog = Py_NewRef(catalog);
    self->maps = (Maps *)Py_NewRef(maps);
    return (PyObject *)self;
}

static int finder_traverse(Finder *self, visitproc visit, void *arg)
{
    Py_VISIT(self->reader);
    Py_VISIT(self->log);
    Py_VISIT(self->catalog);
    return 0;
}

/* What C reads through stays until the end: a view may still have to take back its pin. */
static int finder_clear(Finder *self)
{
    self->descriptor = -1;
    Py_CLEAR(self->reader);
    Py_CLEAR(self->log);
    Py_CLEAR(self->catalog);
    return 0;
}

static void finder_dealloc(Finder *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    finder_clear(self);
    Py_CLEAR(self->index);
    Py_CLEAR(self->maps);
    type->tp_free((PyObject *)self);
}

static PyMethodDef finder_methods[] = {
    {"value", (PyCFunction)finder_value, METH_O, "The value, None, or NotImplemented."},
    {"size", (PyCFunction)finder_size, METH_O, "The value's size, None, or NotImplemented."},
    {"has", (PyCFunction)finder_has, METH_O, "Whether it is there, or NotImplemented."},
    {"location", (PyCFunction)(void (*)(void))finder_location, METH_FASTCALL,
     "Where its record is, None, or NotImplemented."},
    {"view", (PyCFunction)finder_view, METH_O, "A context manager around the value."},
    {"checked_view", (PyCFunction)(void (*)(void))finder_checked_view, METH_FASTCALL,
     "The same, compared with its key."},
    {"part", (PyCFunction)(void (*)(void))finder_part, METH_FASTCALL, "Part of the value, likewise."},
    {"close", (PyCFunction)finder_close, METH_NOARGS, "Answer NotImplemented from now on."},
    {NULL},
};

PyTypeObject FinderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "blkdev._native.Finder",
    .tp_doc = "Reads records of one store; see blkdev/reader.py.",
    .tp_basicsize = sizeof(Finder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = finder_new,
    .tp_traverse = (traverseproc)finder_traverse,
    .tp_clear = (inquiry)finder_clear,
    .tp_dealloc = (destructor)finder_dealloc,
    .tp_methods = finder_methods,
};

int prepare_finder(void)
{
    staged_name = PyUnicode_InternFromString("staged");
    damaged_name = PyUnicode_InternFromString("damaged");
    return staged_name == NULL || damaged_name == NULL ? -1 : PyType_Ready(&FinderType);
}
