/* A read error under a map is a SIGBUS, which ends the process. Here it becomes a page of zeros and a
 * count, which whoever reads through the map looks at afterwards (view.c, blkdev/reader.py: View).
 *
 * The handler runs on the thread that touched the page. It only reads `ranges`, whose entries are
 * written whole (length last, and first when one goes), and makes one system call. It counts before
 * the zeros are there: who sees them and looks at the count sees that, too. A SIGBUS that is not
 * ours gets the handler that was there before.
 *
 * All ranges are known here, so this is also the list of maps that are still in use.
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
    uint64_t owner, end;   /* under the interpreter's lock */
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
        atomic_fetch_add(&faults, 1);
        void *made = mmap((void *)page, PAGE, PROT_READ,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (made != MAP_FAILED) {
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
    is_installed = is_installed || sigaction(SIGBUS, &action, &before) == 0;
    return is_installed;
}

int guard_add(const void *address, size_t length, uint64_t owner, uint64_t end)
{
    for (int at = 0; install() && at < RANGES_MAX; at++)
        if (atomic_load(&ranges[at].length) == 0) {
            ranges[at].owner = owner;
            ranges[at].end = end;
            atomic_store(&ranges[at].start, (uintptr_t)address);
            atomic_store(&ranges[at].length, length);
            if (at >= atomic_load(&ranges_used))
                atomic_store(&ranges_used, at + 1);
            return 1;
        }
    return 0;
}

void guard_remove(const void *address)
{
    for (int at = 0; at < atomic_load(&ranges_used); at++)
        if (atomic_load(&ranges[at].start) == (uintptr_t)address)
            atomic_store(&ranges[at].length, 0);
}

uint64_t guard_end(uint64_t owner)
{
    uint64_t end = 0;
    for (int at = 0; at < atomic_load(&ranges_used); at++)
        if (atomic_load(&ranges[at].length) && ranges[at].owner == owner && ranges[at].end > end)
            end = ranges[at].end;
    return end;
}

unsigned long long guard_faults(void)
{
    return atomic_load(&faults);
}

PyObject *fault_count(PyObject *module, PyObject *unused)
{
    return PyLong_FromUnsignedLongLong(guard_faults());
}
