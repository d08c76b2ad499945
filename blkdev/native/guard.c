/* A read error under a map is a SIGBUS, which ends the process. Here it becomes a page of zeros and a
 * count, which whoever reads through the map looks at afterwards (blkdev/reader.py: View).
 *
 * The handler runs on the thread that touched the page. It only reads `ranges`, whose entries are
 * written whole (length last, and first when one goes), and makes one system call. A SIGBUS that is
 * not ours gets the handler that was there before.
 */
#include "native.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define RANGES_MAX 8192

static struct {
    _Atomic uintptr_t start;
    _Atomic size_t length; /* 0: not in use */
} ranges[RANGES_MAX];
static atomic_int ranges_used;
static atomic_ullong faults;
static struct sigaction before;
static int is_installed;

static int is_guarded(uintptr_t address)
{
    int used = atomic_load(&ranges_used);
    for (int at = 0; at < used; at++) {
        size_t length = atomic_load(&ranges[at].length);
        if (length && address - atomic_load(&ranges[at].start) < length)
            return 1;
    }
    return 0;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t page = (uintptr_t)info->si_addr & -(uintptr_t)PAGE;
    if (is_guarded(page)) {
        void *made = mmap((void *)page, PAGE, PROT_READ,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (made != MAP_FAILED) {
            atomic_fetch_add(&faults, 1);
            errno = saved;
            return;
        }
    }
    errno = saved;
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else {
        sigaction(number, &before, NULL);
        raise(number); /* delivered when this handler returns */
    }
}

static int install(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    if (!is_installed && sigaction(SIGBUS, &action, &before) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return 0;
    }
    is_installed = 1;
    return 1;
}

/* guard(address, length): False when there is no room for another range, and nothing is guarded. */
PyObject *guard(PyObject *module, PyObject *args)
{
    Py_ssize_t address, length;
    if (!PyArg_ParseTuple(args, "nn", &address, &length) || !install())
        return NULL;
    for (int at = 0; at < RANGES_MAX; at++)
        if (atomic_load(&ranges[at].length) == 0) {
            atomic_store(&ranges[at].start, (uintptr_t)address);
            atomic_store(&ranges[at].length, (size_t)length);
            if (at >= atomic_load(&ranges_used))
                atomic_store(&ranges_used, at + 1);
            Py_RETURN_TRUE;
        }
    Py_RETURN_FALSE;
}

PyObject *unguard(PyObject *module, PyObject *argument)
{
    Py_ssize_t address = PyLong_AsSsize_t(argument);
    if (address == -1 && PyErr_Occurred())
        return NULL;
    for (int at = 0; at < atomic_load(&ranges_used); at++)
        if (atomic_load(&ranges[at].start) == (uintptr_t)address)
            atomic_store(&ranges[at].length, 0);
    Py_RETURN_NONE;
}

PyObject *fault_count(PyObject *module, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(atomic_load(&faults));
}
