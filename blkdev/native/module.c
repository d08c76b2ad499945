/* The module. */
#include "native.h"

static PyObject *fingerprint(PyObject *module, PyObject *args)
{
    const char *key;
    Py_ssize_t length;
    unsigned long long salt;
    if (!PyArg_ParseTuple(args, "y#K", &key, &length, &salt))
        return NULL;
    return PyLong_FromUnsignedLongLong(fingerprint_of((const uint8_t *)key, length, salt));
}

static PyMethodDef module_methods[] = {
    {"crc32", checksum, METH_VARARGS, "As zlib.crc32; see blkdev/checksum.py."},
    {"fingerprint_of", fingerprint, METH_VARARGS, "64 bits of a key; see blkdev/index.py."},
    {"fault_count", fault_count, METH_NOARGS, "Read errors that were survived."},
    {"scan", scan, METH_VARARGS, "Entries of a whole group; see blkdev/segment.py."},
    {"enter", enter, METH_VARARGS, "Enter new blocks into the index; see blkdev/recovery/recover.py."},
    {"verify_group", verify_group, METH_VARARGS, "See blkdev/care/verify.py."},
    {"count_alive", count_alive, METH_VARARGS, "See blkdev/care/verify.py."},
    {"stage", stage, METH_VARARGS, "Stage new small blocks; see blkdev/log.py."},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "blkdev._native", "The engine's inner loops.", -1, module_methods,
};

PyMODINIT_FUNC PyInit__native(void)
{
    const uint16_t one = 1;
    if (*(const uint8_t *)&one != 1) {
        PyErr_SetString(PyExc_ImportError, "for little-endian machines only");
        return NULL;
    }
    prepare_checksums();
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyType_Ready(&IndexType) < 0 || prepare_maps() < 0 ||
        prepare_finder() < 0 || prepare_view() < 0 ||
        PyModule_AddObjectRef(made, "Index", (PyObject *)&IndexType) < 0 ||
        PyModule_AddObjectRef(made, "Maps", (PyObject *)&MapsType) < 0 ||
        PyModule_AddObjectRef(made, "Finder", (PyObject *)&FinderType) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
