/* Read-only maps of a device: a window at a time, unmapped when its last view is gone.
 *
 * - A window is handed out only while its range is guarded: a page that turns out unreadable when it
 *   is touched is zeros and a count, never the end of the process.
 * - Pages are read in with the interpreter's lock released, exactly those that are wanted: those that
 *   are not in memory are asked for first, because a fault of its own reads what lies around, too.
 * - What a window has mapped is noted, so that what is read again and again costs no system call.
 *   The system may take such a page back, so it is touched without the interpreter's lock first.
 * - When more than `most` bytes are mapped all windows are dropped and made anew: the pages stay
 *   cached, but in a map they count as this process's memory and look like a leak.
 */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#define GRANULE_PAGES 16 /* what a fault maps around it, where that is in memory */
#define AHEAD_SIZE (128 << 10) /* the system may cut what is asked for at once to this */

typedef struct {
    uint16_t seen, mapped; /* a bit for each page */
} Granule;

struct Window {
    PyObject_HEAD
    uint8_t *address;
    Py_ssize_t length;
    uint64_t number;
    unsigned long long faults; /* when it was made: after another one it may show zeros */
    Granule *granules;
};

static uint64_t owners;

static PyTypeObject WindowType;

static Window *window_new(Maps *maps, uint64_t number)
{
    uint64_t offset = number * maps->window_size, left = maps->end - offset;
    Py_ssize_t length = left < maps->window_size ? left : maps->window_size;
    Window *self = PyObject_New(Window, &WindowType);
    if (self == NULL)
        return NULL;
    self->length = length;
    self->number = number;
    self->faults = guard_faults();
    self->granules = PyMem_RawCalloc(length / (PAGE * GRANULE_PAGES) + 1, sizeof(Granule));
    self->address = MAP_FAILED;
    if (self->granules != NULL)
        self->address = mmap(NULL, length, PROT_READ, MAP_SHARED, maps->descriptor, (off_t)offset);
    if (self->address == MAP_FAILED ||
        !guard_add(self->address, length, maps->owner, offset + length)) {
        Py_DECREF(self);
        return NULL;
    }
    madvise(self->address, length, MADV_RANDOM);
    return self;
}

static void window_dealloc(Window *self)
{
    if (self->address != MAP_FAILED) {
        guard_remove(self->address);
        Py_BEGIN_ALLOW_THREADS
        munmap(self->address, self->length);
        Py_END_ALLOW_THREADS
    }
    PyMem_RawFree(self->granules);
    PyObject_Free(self);
}

static int window_buffer(Window *self, Py_buffer *buffer, int flags)
{
    return PyBuffer_FillInfo(buffer, (PyObject *)self, self->address, self->length, 1, flags);
}

const uint8_t *window_at(const Window *self, size_t skip)
{
    return self->address + skip;
}

int window_is_true(const Window *self)
{
    return self->faults == guard_faults();
}

int window_saw(Window *self, size_t skip)
{
    Granule *granule = &self->granules[skip / PAGE / GRANULE_PAGES];
    int bit = 1 << skip / PAGE % GRANULE_PAGES, known = granule->seen & bit;
    granule->seen |= bit;
    return known != 0;
}

static int are_mapped(const Window *self, size_t first, size_t end)
{
    for (size_t page = first; page < end; page++)
        if (!(self->granules[page / GRANULE_PAGES].mapped & 1 << page % GRANULE_PAGES))
            return 0;
    return 1;
}

/* Bytes that are mapped more than before, counted as if all around them were in memory. */
static Py_ssize_t note_mapped(Window *self, size_t first, size_t end)
{
    Py_ssize_t more = 0;
    for (size_t page = first; page < end; page++) {
        Granule *granule = &self->granules[page / GRANULE_PAGES];
        more += granule->mapped ? 0 : PAGE * GRANULE_PAGES;
        granule->mapped |= 1 << page % GRANULE_PAGES;
    }
    return more;
}

/* Read in and map these pages; 0, or the number of the error. Without the interpreter's lock. */
static int populate(const Window *self, size_t first, size_t end)
{
    uint8_t *address = self->address + first * PAGE;
    size_t length = (end - first) * PAGE;
    for (size_t at = 0; at < length; at += AHEAD_SIZE)
        madvise(address + at, length - at < AHEAD_SIZE ? length - at : AHEAD_SIZE, MADV_WILLNEED);
    return madvise(address, length, MADV_POPULATE_READ) ? errno : 0;
}

static void touch(const Window *self, size_t first, size_t end)
{
    for (size_t page = first; page < end; page++)
        (void)*(const volatile uint8_t *)(self->address + page * PAGE);
}

/* Whether the system still has all of these pages, which were mapped once. */
static int are_resident(const Window *self, size_t first, size_t end)
{
    unsigned char pages[256];
    for (size_t at = first; at < end; at += sizeof pages) {
        size_t count = end - at < sizeof pages ? end - at : sizeof pages;
        if (mincore(self->address + at * PAGE, count * PAGE, pages) < 0)
            return 0;
        for (size_t page = 0; page < count; page++)
            if (!(pages[page] & 1))
                return 0;
    }
    return 1;
}

static void drop(Maps *self)
{
    self->mapped_bytes = 0;
    for (Py_ssize_t at = 0; at < self->count; at++)
        Py_CLEAR(self->windows[at]);
}

/* The place of the window with this range; NULL when there can be none. */
static Window **place_of(Maps *self, uint64_t offset, size_t length, size_t *skip)
{
    *skip = offset % self->window_size;
    if (self->descriptor < 0 || !self->can_populate || length == 0 || offset > self->end ||
        length > self->end - offset || length > self->window_size - *skip)
        return NULL;
    return &self->windows[offset / self->window_size % self->count];
}

static int is_window(const Window *self, uint64_t number)
{
    return self != NULL && self->number == number && window_is_true(self);
}

int maps_copy(Maps *self, uint64_t offset, const struct iovec *parts, int count)
{
    size_t skip, length = 0;
    for (int part = 0; part < count; part++)
        length += parts[part].iov_len;
    Window **place = length > READ_MAX ? NULL : place_of(self, offset, length, &skip), *window;
    if (place == NULL || !is_window(window = *place, offset / self->window_size) ||
        !are_mapped(window, skip / PAGE, (skip + length + PAGE - 1) / PAGE))
        return 0;
    Py_INCREF(window);
    Py_BEGIN_ALLOW_THREADS
    for (int part = 0; part < count; part++) {
        memcpy(parts[part].iov_base, window->address + skip, parts[part].iov_len);
        skip += parts[part].iov_len;
    }
    Py_END_ALLOW_THREADS
    int is_done = window_is_true(window);
    Py_DECREF(window);
    return is_done;
}

Window *maps_reach(Maps *self, uint64_t offset, size_t length, size_t *skip)
{
    uint64_t number = offset / self->window_size;
    Window **place = place_of(self, offset, length, skip);
    if (place == NULL)
        return NULL;
    Window *old = *place;
    if (is_window(old, number))
        return (Window *)Py_NewRef(old);
    Window *made = window_new(self, number);
    if (made == NULL) {
        PyErr_Clear(); /* no address space is left: no fault of the device */
        return NULL;
    }
    *place = (Window *)Py_NewRef(made);
    Py_XDECREF(old); /* which lets go of the interpreter's lock */
    return made;
}

int maps_fill(Maps *self, Window *window, size_t skip, size_t length)
{
    size_t first = skip / PAGE, end = (skip + length + PAGE - 1) / PAGE;
    int known = are_mapped(window, first, end), error = 0;
    Py_BEGIN_ALLOW_THREADS
    if (known && length <= READ_MAX)
        touch(window, first, end); /* if they are gone, by so many reads of a page */
    else if (!known || !are_resident(window, first, end))
        error = populate(window, first, end);
    Py_END_ALLOW_THREADS
    if (error) {
        /* EINVAL: a kernel before 5.14. Anything else is a read error, which `pread` can name. */
        self->can_populate = error != EINVAL;
        return 0;
    }
    if (!known)
        self->mapped_bytes += note_mapped(window, first, end);
    if (self->mapped_bytes > self->most)
        drop(self);
    return window_is_true(window);
}

static PyObject *maps_view(Maps *self, PyObject *args)
{
    unsigned long long offset;
    Py_ssize_t length;
    size_t skip;
    if (!PyArg_ParseTuple(args, "Kn", &offset, &length))
        return NULL;
    Window *window = length < 0 ? NULL : maps_reach(self, offset, length, &skip);
    if (window == NULL)
        Py_RETURN_NONE;
    PyObject *view = NULL;
    if (maps_fill(self, window, skip, length)) {
        PyObject *whole = PyMemoryView_FromObject((PyObject *)window);
        if (whole != NULL)
            view = PySequence_GetSlice(whole, skip, skip + length);
        Py_XDECREF(whole);
    } else
        view = Py_NewRef(Py_None);
    Py_DECREF(window);
    return view;
}

static PyObject *maps_resize(Maps *self, PyObject *argument)
{
    unsigned long long end = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred())
        return NULL;
    self->end = end;
    drop(self);
    Py_RETURN_NONE;
}

static PyObject *maps_end(Maps *self, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(guard_end(self->owner));
}

static PyObject *maps_close(Maps *self, PyObject *unused)
{
    self->descriptor = -1;
    drop(self);
    Py_RETURN_NONE;
}

static PyObject *maps_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    unsigned long long end, window_size;
    int descriptor;
    Py_ssize_t count, most;
    if (!PyArg_ParseTuple(args, "iKnKn", &descriptor, &end, &count, &window_size, &most))
        return NULL;
    if (count < 1 || window_size < PAGE || window_size % PAGE || window_size > PY_SSIZE_T_MAX) {
        PyErr_SetString(PyExc_ValueError, "windows are one at least, and whole pages");
        return NULL;
    }
    Maps *self = (Maps *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->windows = PyMem_RawCalloc(count, sizeof(Window *));
    if (self->windows == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->descriptor = descriptor;
    self->end = end;
    self->count = count;
    self->window_size = window_size;
    self->most = most;
    self->can_populate = 1;
    self->owner = ++owners;
    return (PyObject *)self;
}

static void maps_dealloc(Maps *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->windows != NULL)
        drop(self);
    PyMem_RawFree(self->windows);
    type->tp_free((PyObject *)self);
}

static PyMethodDef maps_methods[] = {
    {"view", (PyCFunction)maps_view, METH_VARARGS, "The range, or None when it has to be read."},
    {"resize", (PyCFunction)maps_resize, METH_O, "Map up to here from now on; drop all windows."},
    {"end", (PyCFunction)maps_end, METH_NOARGS, "Where the last map that is in use ends."},
    {"close", (PyCFunction)maps_close, METH_NOARGS, "Map nothing from now on."},
    {NULL},
};

static PyBufferProcs window_as_buffer = {.bf_getbuffer = (getbufferproc)window_buffer};

static PyTypeObject WindowType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "blkdev._native.Window",
    .tp_doc = "Part of a device.",
    .tp_basicsize = sizeof(Window),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)window_dealloc,
    .tp_as_buffer = &window_as_buffer,
};

PyTypeObject MapsType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "blkdev._native.Maps",
    .tp_doc = "Read-only maps of a device; see blkdev/devices/file.py.",
    .tp_basicsize = sizeof(Maps),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = maps_new,
    .tp_dealloc = (destructor)maps_dealloc,
    .tp_methods = maps_methods,
};

int prepare_maps(void)
{
    return PyType_Ready(&WindowType) < 0 ? -1 : PyType_Ready(&MapsType);
}
