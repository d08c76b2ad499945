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
 * - A checked view compares the value with its key, a sha2-256 multihash, unless the key is among those
 *   that were compared lately. What does not fit, or is asked for in another way, is for Python: it
 *   makes its own view (`make_slow`) and looks from the beginning. At its end nobody can look any more.
 */
#include "native.h"

enum { NEW, OPEN, DONE };

typedef struct {
    PyObject_HEAD
    Finder *finder;
    PyObject *key, *slow; /* `slow` is Python's view, where it had to look */
    PyObject *name, *compared, *make_slow, *shown; /* of a checked one */
    Window *window;
    const uint8_t *value;
    Py_ssize_t size;
    uint64_t location;
    int state, is_pinned;
} View;

#define MULTIHASH_SIZE 34
#define DIGEST_SIZE 32

static PyObject *slow_name, *fail_name, *enter_name, *exit_name, *release_name;
static PyObject *recent_name, *most_name, *turn_name, *digest_name, *sha256;

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

/* Whether the key is the sha2-256 multihash of what is shown; the hash lets others run meanwhile. */
static int is_hash_of(PyObject *key, PyObject *shown)
{
    const char *bytes = PyBytes_AS_STRING(key);
    if (PyBytes_GET_SIZE(key) != MULTIHASH_SIZE || bytes[0] != 0x12 || bytes[1] != DIGEST_SIZE)
        return 0;
    PyObject *hash = PyObject_CallOneArg(sha256, shown);
    PyObject *digest = hash == NULL ? NULL : PyObject_CallMethodNoArgs(hash, digest_name);
    int is_it = digest != NULL && PyBytes_CheckExact(digest) &&
                PyBytes_GET_SIZE(digest) == DIGEST_SIZE &&
                memcmp(PyBytes_AS_STRING(digest), bytes + 2, DIGEST_SIZE) == 0;
    Py_XDECREF(digest);
    Py_XDECREF(hash);
    return is_it;
}

/* Note that the key's value was compared; 0 with an exception set. */
static int note_compared(View *self, PyObject *recent)
{
    if (PySet_Add(recent, self->key) < 0)
        return 0;
    PyObject *most = PyObject_GetAttr(self->compared, most_name);
    Py_ssize_t count = most == NULL ? -1 : PyLong_AsSsize_t(most);
    Py_XDECREF(most);
    if (count < 0 || PySet_GET_SIZE(recent) <= count)
        return count >= 0;
    PyObject *done = PyObject_CallMethodNoArgs(self->compared, turn_name);
    Py_XDECREF(done);
    return done != NULL;
}

/* Whether what is shown belongs to the key; 0, without an exception, also when that is for Python. */
static int passes(View *self, PyObject *shown)
{
    if (self->compared == NULL)
        return 1;
    PyObject *recent = PyObject_GetAttr(self->compared, recent_name);
    int found = recent == NULL || !PySet_CheckExact(recent) ? -1 : PySet_Contains(recent, self->key);
    if (found == 0)
        found = is_hash_of(self->key, shown) && note_compared(self, recent);
    Py_XDECREF(recent);
    PyErr_Clear();
    return found > 0;
}

/* Let Python look, from the beginning. */
static PyObject *enter_slowly(View *self)
{
    PyObject *slow = self->make_slow != NULL
                         ? PyObject_CallOneArg(self->make_slow, self->name)
                         : PyObject_CallMethodOneArg(self->finder->reader, slow_name, self->key);
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
    PyObject *shown = NULL, *copy = NULL;
    if (is_first && hold(self, &is_small))
        shown = PyMemoryView_FromObject((PyObject *)self);
    else if (is_small && (copy = finder_value(self->finder, self->key)) != NULL)
        shown = PyBytes_CheckExact(copy) ? PyMemoryView_FromObject(copy) : NULL;
    Py_XDECREF(copy);
    if (shown != NULL && passes(self, shown)) {
        if (self->compared != NULL)
            self->shown = Py_NewRef(shown);
        return shown;
    }
    if (shown != NULL || !PyErr_Occurred()) {
        Py_XDECREF(shown);
        unpin(self);
        shown = enter_slowly(self);
    }
    if (shown == NULL)
        self->state = DONE;
    return shown;
}

/* Nobody sees through it any more, as far as that can be: BufferError where somebody holds on to it. */
static int release_shown(View *self)
{
    PyObject *shown = self->shown;
    self->shown = NULL;
    if (shown == NULL)
        return 1;
    PyObject *done = PyObject_CallMethodNoArgs(shown, release_name);
    Py_DECREF(shown);
    Py_XDECREF(done);
    return done != NULL;
}

static PyObject *view_exit(View *self, PyObject *const *args, Py_ssize_t given)
{
    self->state = DONE;
    if (self->slow != NULL) {
        PyObject *slow = self->slow;
        self->slow = NULL;
        PyObject *raised[3] = {Py_None, Py_None, Py_None};
        PyObject *way_out = PyObject_GetAttr(slow, exit_name), *done = NULL;
        if (way_out != NULL)
            done = PyObject_Vectorcall(way_out, given == 3 ? args : raised, 3, NULL);
        Py_XDECREF(way_out);
        Py_DECREF(slow);
        return done;
    }
    int was_pinned = self->is_pinned, is_released = release_shown(self);
    unpin(self);
    if (!is_released)
        return NULL;
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
    Py_VISIT(self->compared);
    Py_VISIT(self->make_slow);
    Py_VISIT(self->shown);
    return 0;
}

static int view_clear(View *self)
{
    if (self->finder != NULL)
        unpin(self);
    self->state = OPEN; /* nobody enters what is being collected */
    Py_CLEAR(self->slow);
    Py_CLEAR(self->compared);
    Py_CLEAR(self->make_slow);
    Py_CLEAR(self->shown);
    Py_CLEAR(self->finder);
    return 0;
}

static void view_dealloc(View *self)
{
    PyObject_GC_UnTrack(self);
    view_clear(self);
    Py_XDECREF(self->key);
    Py_XDECREF(self->name);
    Py_XDECREF(self->window);
    PyObject_GC_Del(self);
}

static View *view_new(Finder *finder, PyObject *key)
{
    View *self = PyObject_GC_New(View, &ViewType);
    if (self == NULL)
        return NULL;
    self->finder = (Finder *)Py_NewRef(finder);
    self->key = Py_NewRef(key);
    self->slow = self->name = self->compared = self->make_slow = self->shown = NULL;
    self->window = NULL;
    self->state = NEW;
    self->is_pinned = 0;
    return self;
}

PyObject *finder_view(Finder *finder, PyObject *key)
{
    View *self = view_new(finder, key);
    if (self != NULL)
        PyObject_GC_Track(self);
    return (PyObject *)self;
}

PyObject *finder_checked_view(Finder *finder, PyObject *const *args, Py_ssize_t given)
{
    if (given != 4) {
        PyErr_SetString(PyExc_TypeError, "name, key, what was compared and a maker are wanted");
        return NULL;
    }
    View *self = view_new(finder, args[1]);
    if (self == NULL)
        return NULL;
    self->name = Py_NewRef(args[0]);
    self->compared = Py_NewRef(args[2]);
    self->make_slow = Py_NewRef(args[3]);
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
    release_name = PyUnicode_InternFromString("release");
    recent_name = PyUnicode_InternFromString("recent");
    most_name = PyUnicode_InternFromString("recent_max");
    turn_name = PyUnicode_InternFromString("turn");
    digest_name = PyUnicode_InternFromString("digest");
    PyObject *hashes = PyImport_ImportModule("hashlib");
    sha256 = hashes == NULL ? NULL : PyObject_GetAttrString(hashes, "sha256");
    Py_XDECREF(hashes);
    return sha256 == NULL || PyErr_Occurred() ? -1 : PyType_Ready(&ViewType);
}
