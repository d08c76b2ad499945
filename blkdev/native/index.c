/* The index: shards of sorted open addressing. How it works: blkdev/pure/shards.py. */
#include "native.h"

static Slot *empty_slots(Py_ssize_t count)
{
    Slot *slots = PyMem_RawMalloc(count * sizeof(Slot));
    for (Py_ssize_t at = 0; slots != NULL && at < count; at++)
        slots[at] = (Slot){EMPTY, 0};
    return slots;
}

static int place(Shard *shard, uint64_t fingerprint, uint64_t location)
{
    Slot *slot = first_slot(shard, fingerprint), *end = slot;
    while (end->fingerprint != EMPTY)
        end++;
    if (end - shard->slots + 2 > slot_count(shard->homes))
        return 0; /* one slot at the end stays empty */
    memmove(slot + 1, slot, (end - slot) * sizeof(Slot));
    *slot = (Slot){fingerprint, location};
    return 1;
}

/* All entries into a table of more homes, in order; NULL when they do not fit or memory is short. */
static Slot *filled(const Shard *shard, Py_ssize_t homes)
{
    Py_ssize_t last = slot_count(homes) - 2, next = 0;
    Slot *slots = empty_slots(slot_count(homes));
    if (slots == NULL)
        return NULL;
    for (Py_ssize_t from = 0; from < slot_count(shard->homes); from++) {
        Slot entry = shard->slots[from];
        if (entry.fingerprint == EMPTY)
            continue;
        Py_ssize_t at = home_of(entry.fingerprint, homes);
        at = at > next ? at : next;
        if (at > last - 1) {
            PyMem_RawFree(slots);
            return NULL;
        }
        slots[at] = entry;
        next = at + 1;
    }
    return slots;
}

static int grow(Index *index, Shard *shard)
{
    Py_ssize_t homes = shard->homes;
    Slot *slots = NULL;
    for (int tries = 0; slots == NULL; tries++) {
        homes = homes * 8 / 7 + 1;
        slots = filled(shard, homes);
        if (slots == NULL && tries == 16) {
            PyErr_NoMemory();
            return 0;
        }
    }
    index->size_bytes += (slot_count(homes) - slot_count(shard->homes)) * sizeof(Slot);
    PyMem_RawFree(shard->slots);
    shard->slots = slots;
    shard->homes = homes;
    return 1;
}

/* A shard that was put off is loaded by Python, which lets others run meanwhile. */
static int fetch(Index *index, Py_ssize_t number)
{
    if (index->shards[number].slots != NULL)
        return 1;
    PyObject *done = PyObject_CallMethod((PyObject *)index, "fetch", "n", number);
    if (done != NULL && index->shards[number].slots == NULL)
        PyErr_SetString(PyExc_RuntimeError, "a shard was not fetched");
    Py_XDECREF(done);
    return index->shards[number].slots != NULL && !PyErr_Occurred();
}

int index_add(Index *index, uint64_t fingerprint, uint64_t location)
{
    Shard *shard = &index->shards[fingerprint >> SHARD_SHIFT];
    if (!fetch(index, fingerprint >> SHARD_SHIFT))
        return 0;
    if (shard->used * LOAD_DENOMINATOR >= shard->homes * LOAD_NUMERATOR && !grow(index, shard))
        return 0;
    while (!place(shard, fingerprint, location))
        if (!grow(index, shard))
            return 0;
    shard->used++;
    index->count++;
    return 1;
}

int index_pin(Index *index, Slot entry)
{
    Py_ssize_t slot = slot_of(entry.location);
    if (find_slot(index, entry.fingerprint, entry.location) == NULL)
        return 0;
    if (slot >= index->pin_room) {
        uint32_t *pins = PyMem_RawRealloc(index->pins, 2 * (slot + 1) * sizeof(uint32_t));
        if (pins == NULL)
            return -1;
        memset(pins + index->pin_room, 0, (2 * (slot + 1) - index->pin_room) * sizeof(uint32_t));
        index->pins = pins;
        index->pin_room = 2 * (slot + 1);
    }
    index->pins[slot]++;
    return 1;
}

void index_unpin(Index *index, uint64_t location)
{
    index->pins[slot_of(location)]--;
}

static int fingerprint_arg(PyObject *value, uint64_t *fingerprint)
{
    *fingerprint = PyLong_AsUnsignedLongLong(value);
    if (*fingerprint == EMPTY) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "not the fingerprint of a key");
        return 0;
    }
    return 1;
}

/* Afterwards the shard of values[0], a fingerprint, is there. */
static int arguments(Index *self, PyObject *const *args, Py_ssize_t given, Py_ssize_t wanted,
                     uint64_t *values)
{
    if (given != wanted) {
        PyErr_Format(PyExc_TypeError, "%zd arguments, not %zd", wanted, given);
        return 0;
    }
    if (!fingerprint_arg(args[0], &values[0]))
        return 0;
    for (Py_ssize_t at = 1; at < wanted; at++) {
        values[at] = PyLong_AsUnsignedLongLong(args[at]);
        if (values[at] == UINT64_MAX && PyErr_Occurred())
            return 0;
    }
    return fetch(self, values[0] >> SHARD_SHIFT);
}

static PyObject *index_locations(Index *self, PyObject *argument)
{
    uint64_t fingerprint;
    if (!arguments(self, &argument, 1, 1, &fingerprint))
        return NULL;
    Slot *slot = first_slot(&self->shards[fingerprint >> SHARD_SHIFT], fingerprint);
    Py_ssize_t found = 0;
    while (slot[found].fingerprint == fingerprint)
        found++;
    PyObject *locations = PyTuple_New(found);
    for (Py_ssize_t at = 0; locations != NULL && at < found; at++) {
        PyObject *location = PyLong_FromUnsignedLongLong(slot[at].location);
        if (location == NULL)
            Py_CLEAR(locations);
        else
            PyTuple_SET_ITEM(locations, at, location);
    }
    return locations;
}

static PyObject *index_has(Index *self, PyObject *const *args, Py_ssize_t given)
{
    uint64_t values[2];
    if (!arguments(self, args, given, 2, values))
        return NULL;
    return PyBool_FromLong(find_slot(self, values[0], values[1]) != NULL);
}

static PyObject *index_add_method(Index *self, PyObject *const *args, Py_ssize_t given)
{
    uint64_t values[2];
    if (!arguments(self, args, given, 2, values) || !index_add(self, values[0], values[1]))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *index_replace(Index *self, PyObject *const *args, Py_ssize_t given)
{
    uint64_t values[3];
    if (!arguments(self, args, given, 3, values))
        return NULL;
    Slot *slot = find_slot(self, values[0], values[1]);
    if (slot == NULL) {
        PyErr_SetString(PyExc_AssertionError, "the entry to replace is not there");
        return NULL;
    }
    slot->location = values[2];
    Py_RETURN_NONE;
}

static PyObject *index_remove(Index *self, PyObject *const *args, Py_ssize_t given)
{
    uint64_t values[2];
    if (!arguments(self, args, given, 2, values))
        return NULL;
    Shard *shard = &self->shards[values[0] >> SHARD_SHIFT];
    Slot *slot = find_slot(self, values[0], values[1]);
    if (slot == NULL)
        Py_RETURN_FALSE;
    Slot *end = slot + 1;
    while (end->fingerprint != EMPTY && home_of(end->fingerprint, shard->homes) < end - shard->slots)
        end++;
    memmove(slot, slot + 1, (end - slot - 1) * sizeof(Slot));
    end[-1] = (Slot){EMPTY, 0};
    shard->used--;
    self->count--;
    Py_RETURN_TRUE;
}

static int number_arg(PyObject *argument, Py_ssize_t *number)
{
    *number = PyLong_AsSsize_t(argument);
    if (*number >= 0 && *number < SHARDS)
        return 1;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_IndexError, "no such shard");
    return 0;
}

static PyObject *index_pin_method(Index *self, PyObject *const *args, Py_ssize_t given)
{
    uint64_t values[2];
    if (!arguments(self, args, given, 2, values))
        return NULL;
    int pinned = index_pin(self, (Slot){values[0], values[1]});
    return pinned < 0 ? PyErr_NoMemory() : PyBool_FromLong(pinned);
}

static PyObject *index_pin_count(Index *self, PyObject *argument)
{
    uint64_t slot = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLong(slot < (uint64_t)self->pin_room ? self->pins[slot] : 0);
}

static PyObject *index_unpin_method(Index *self, PyObject *argument)
{
    uint64_t location = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    if (slot_of(location) >= (uint64_t)self->pin_room || !self->pins[slot_of(location)]) {
        PyErr_SetString(PyExc_AssertionError, "the segment to unpin is not pinned");
        return NULL;
    }
    index_unpin(self, location);
    Py_RETURN_NONE;
}

static PyObject *index_shard(Index *self, PyObject *argument)
{
    Py_ssize_t number;
    if (!number_arg(argument, &number) || !fetch(self, number))
        return NULL;
    Shard *shard = &self->shards[number];
    return Py_BuildValue("nny#", shard->homes, shard->used, (const char *)shard->slots,
                         slot_count(shard->homes) * (Py_ssize_t)sizeof(Slot));
}

static PyObject *index_is_there(Index *self, PyObject *argument)
{
    Py_ssize_t number;
    if (!number_arg(argument, &number))
        return NULL;
    return PyBool_FromLong(self->shards[number].slots != NULL);
}

static void set_shard(Index *self, Py_ssize_t number, Shard made)
{
    Shard *shard = &self->shards[number];
    Py_ssize_t more = slot_count(made.homes) - slot_count(shard->homes);
    self->size_bytes += more * (Py_ssize_t)sizeof(Slot);
    self->count += made.used - shard->used;
    PyMem_RawFree(shard->slots);
    *shard = made;
}

static int is_shard(Py_ssize_t number, Py_ssize_t homes, Py_ssize_t used)
{
    if (number >= 0 && number < SHARDS && homes >= HOMES_MIN && homes <= PY_SSIZE_T_MAX / 64 &&
        used >= 0 && used <= homes)
        return 1;
    PyErr_SetString(PyExc_ValueError, "no such shard");
    return 0;
}

static PyObject *index_put_off(Index *self, PyObject *args)
{
    Py_ssize_t number, homes, used;
    if (!PyArg_ParseTuple(args, "nnn", &number, &homes, &used) || !is_shard(number, homes, used))
        return NULL;
    if (self->size_bytes > PY_SSIZE_T_MAX / 2)
        return PyErr_NoMemory();
    set_shard(self, number, (Shard){NULL, homes, used});
    Py_RETURN_NONE;
}

static PyObject *index_load(Index *self, PyObject *args)
{
    Py_ssize_t number, homes, used;
    Py_buffer image;
    if (!PyArg_ParseTuple(args, "nnny*", &number, &homes, &used, &image))
        return NULL;
    Slot *slots = NULL;
    if (is_shard(number, homes, used)) {
        Py_ssize_t size = slot_count(homes) * (Py_ssize_t)sizeof(Slot);
        if (size != image.len ||
            load_u64((const uint8_t *)image.buf + size - sizeof(Slot)) != EMPTY)
            PyErr_SetString(PyExc_ValueError, "not the image of a shard");
        else if ((slots = PyMem_RawMalloc(size)) == NULL)
            PyErr_NoMemory();
    }
    if (slots != NULL) {
        memcpy(slots, image.buf, image.len);
        set_shard(self, number, (Shard){slots, homes, used});
    }
    PyBuffer_Release(&image);
    if (slots == NULL)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *index_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    Index *self = (Index *)type->tp_alloc(type, 0);
    for (int number = 0; self != NULL && number < SHARDS; number++) {
        Shard *shard = &self->shards[number];
        *shard = (Shard){empty_slots(slot_count(HOMES_MIN)), HOMES_MIN, 0};
        self->size_bytes += slot_count(HOMES_MIN) * sizeof(Slot);
        if (shard->slots == NULL) {
            Py_DECREF(self);
            return PyErr_NoMemory();
        }
    }
    return (PyObject *)self;
}

static void index_dealloc(Index *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (int number = 0; number < SHARDS; number++)
        PyMem_RawFree(self->shards[number].slots);
    PyMem_RawFree(self->pins);
    type->tp_free((PyObject *)self);
}

static PyMethodDef index_methods[] = {
    {"locations", (PyCFunction)index_locations, METH_O, "Locations of all with a fingerprint."},
    {"has", (PyCFunction)(void (*)(void))index_has, METH_FASTCALL, "Whether this entry is there."},
    {"add", (PyCFunction)(void (*)(void))index_add_method, METH_FASTCALL, "Add an entry."},
    {"replace", (PyCFunction)(void (*)(void))index_replace, METH_FASTCALL, "Move an entry."},
    {"remove", (PyCFunction)(void (*)(void))index_remove, METH_FASTCALL, "Remove an entry."},
    {"pin", (PyCFunction)(void (*)(void))index_pin_method, METH_FASTCALL, "Pin its segment."},
    {"unpin", (PyCFunction)index_unpin_method, METH_O, "Take back one pin."},
    {"pin_count", (PyCFunction)index_pin_count, METH_O, "Pins of a segment's slot."},
    {"shard", (PyCFunction)index_shard, METH_O, "(homes, used, slots) of a shard."},
    {"is_there", (PyCFunction)index_is_there, METH_O, "Whether a shard was not put off."},
    {"put_off", (PyCFunction)index_put_off, METH_VARARGS, "Leave a shard to `fetch`."},
    {"load", (PyCFunction)index_load, METH_VARARGS, "Set a shard; the inverse of `shard`."},
    {NULL},
};

static PyMemberDef index_members[] = {
    {"count", T_PYSSIZET, offsetof(Index, count), READONLY, "Entries."},
    {"size_bytes", T_PYSSIZET, offsetof(Index, size_bytes), READONLY, "Bytes of all slots."},
    {NULL},
};

PyTypeObject IndexType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "blkdev._native.Index",
    .tp_doc = "Fingerprint -> locations; see blkdev/index.py.",
    .tp_basicsize = sizeof(Index),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = index_new,
    .tp_dealloc = (destructor)index_dealloc,
    .tp_methods = index_methods,
    .tp_members = index_members,
};

