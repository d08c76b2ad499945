/* A value without a copy, for a `with`: pins its segment, shows the map, takes the pin back.
 *
 * - The segment is pinned before anything of it is read, while the index says that the record is
 *   alive: from then on it keeps its bytes. So nothing has to be looked at again afterwards.
 * - Header and key are copied out of the map before they are checked: whoever writes to the device
 *   under us cannot change them in between.
 * - The memoryview keeps this object, this object keeps the window: what is kept beyond the `with`
 *   may show another record one day, but it is never memory that is not there any more. A pin that
 *   nobody took back goes with the last of them.
 * - A small value that is asked for the first time lately is copied: one read costs less than to map
 *   its pages, and most are not asked for again.
 */
#include "native.h"

enum { NEW, OPEN, DONE };

typedef struct {
    PyObject_HEAD
    Finder *finder;
    PyObject *key, *slow; /* `slow` is Python's View, where it had to look */
    Window *window;
    const uint8_t *value;
    Py_ssize_t size;
    uint64_t location;
    int state, is_pinned;
} View;

static PyObject *slow_name, *fail_name, *enter_name, *exit_name;

static void unpin(View *self)
{
    if (self->is_pinned)
        index_unpin(self->finder->index, self->location);
    self->is_pinned = 0;
}

/* Whether the value is pinned and in the map now. `is_small` when a copy of it does as well. */
static int hold(View *self, int *is_small)
{
    Finder *finder = self->finder;
    Slot entry;
    uint8_t head[HEAD_SIZE + KEY_MAX];
    if (locate(finder, self->key, &entry, 0) != 1)
        return 0;
    size_t size = size_of(entry.location), head_size = HEAD_SIZE + PyBytes_GET_SIZE(self->key), skip;
    *is_small = size <= READ_MAX;
    if (finder->verify || size < head_size)
        return 0;
    Window *window = maps_reach(finder->maps, offset_of(finder, entry.location), size, &skip);
    if (window == NULL)
        return 0;
    if ((*is_small && !window_saw(window, skip)) || index_pin(finder->index, entry) != 1) {
        Py_DECREF(window);
        return 0;
    }
    self->window = window;
    self->location = entry.location;
    self->is_pinned = 1;
    if (maps_fill(finder->maps, window, skip, size)) {
        memcpy(head, window_at(window, skip), head_size);
        self->value = window_at(window, skip + head_size);
        self->size = load_u32(head + 8);
        if (confirms(finder, head, self->key) && (size_t)self->size <= size - head_size)
            return 1;
    }
    unpin(self);
    Py_CLEAR(self->window);
    return 0;
}

/* Let Python look, from the beginning. */
static PyObject *enter_slowly(View *self)
{
    PyObject *slow = PyObject_CallMethodOneArg(self->finder->reader, slow_name, self->key);
    PyObject *shown = slow == NULL ? NULL : PyObject_CallMethodNoArgs(slow, enter_name);
    if (shown == NULL)
        Py_XDECREF(slow);
    else
        self->slow = slow;
    return shown;
}

static PyObject *view_enter(View *self, PyObject *unused)
{
    int is_small = 0, is_first = self->state == NEW;
    if (self->state == OPEN || self->finder->reader == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this view is open");
        return NULL;
    }
    self->state = OPEN;
    if (is_first && hold(self, &is_small))
        return PyMemoryView_FromObject((PyObject *)self);
    PyObject *copy = is_small ? finder_value(self->finder, self->key) : NULL, *shown = NULL;
    if (copy != NULL && PyBytes_CheckExact(copy))
        shown = PyMemoryView_FromObject(copy);
    else if (!PyErr_Occurred())
        shown = enter_slowly(self);
    Py_XDECREF(copy);
    if (shown == NULL)
        self->state = DONE;
    return shown;
}

static PyObject *view_exit(View *self, PyObject *const *args, Py_ssize_t given)
{
    self->state = DONE;
    if (self->slow != NULL) {
        PyObject *slow = self->slow;
        self->slow = NULL;
        PyObject *done = PyObject_CallMethodNoArgs(slow, exit_name);
        Py_DECREF(slow);
        return done;
    }
    int was_pinned = self->is_pinned;
    unpin(self);
    if (was_pinned && !window_is_true(self->window))
        return PyObject_CallMethodOneArg(self->finder->reader, fail_name, self->key);
    Py_RETURN_NONE;
}

static int view_buffer(View *self, Py_buffer *buffer, int flags)
{
    if (!self->is_pinned) {
        buffer->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "this view is not open");
        return -1;
    }
    return PyBuffer_FillInfo(buffer, (PyObject *)self, (void *)self->value, self->size, 1, flags);
}

static int view_traverse(View *self, visitproc visit, void *arg)
{
    Py_VISIT(self->finder);
    Py_VISIT(self->slow);
    return 0;
}

static int view_clear(View *self)
{
    if (self->finder != NULL)
        unpin(self);
    self->state = OPEN; /* nobody enters what is being collected */
    Py_CLEAR(self->slow);
    Py_CLEAR(self->finder);
    return 0;
}

static void view_dealloc(View *self)
{
    PyObject_GC_UnTrack(self);
    view_clear(self);
    Py_XDECREF(self->key);
    Py_XDECREF(self->window);
    PyObject_GC_Del(self);
}

PyObject *finder_view(Finder *finder, PyObject *key)
{
    View *self = PyObject_GC_New(View, &ViewType);
    if (self == NULL)
        return NULL;
    self->finder = (Finder *)Py_NewRef(finder);
    self->key = Py_NewRef(key);
    self->slow = NULL;
    self->window = NULL;
    self->state = NEW;
    self->is_pinned = 0;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyMethodDef view_methods[] = {
    {"__enter__", (PyCFunction)view_enter, METH_NOARGS, "The value, read-only."},
    {"__exit__", (PyCFunction)(void (*)(void))view_exit, METH_FASTCALL, "Let go of its segment."},
    {NULL},
};

static PyBufferProcs view_as_buffer = {.bf_getbuffer = (getbufferproc)view_buffer};

PyTypeObject ViewType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "blkdev._native.View",
    .tp_doc = "A value without a copy; see blkdev/reader.py.",
    .tp_basicsize = sizeof(View),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)view_traverse,
    .tp_clear = (inquiry)view_clear,
    .tp_dealloc = (destructor)view_dealloc,
    .tp_methods = view_methods,
    .tp_as_buffer = &view_as_buffer,
};

int prepare_view(void)
{
    slow_name = PyUnicode_InternFromString("slow_view");
    fail_name = PyUnicode_InternFromString("fail_view");
    enter_name = PyUnicode_InternFromString("__enter__");
    exit_name = PyUnicode_InternFromString("__exit__");
    if (slow_name == NULL || fail_name == NULL || enter_name == NULL || exit_name == NULL)
        return -1;
    return PyType_Ready(&ViewType);
}
