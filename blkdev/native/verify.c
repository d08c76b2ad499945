/* Verifying a whole group, and telling which of its blocks are alive. What it means:
 * blkdev/care/verify.py, whose functions in Python do the same.
 */
#include "native.h"

#define RECORD_UNIT 8

typedef struct {
    const uint8_t *data;
    size_t size;
    uint64_t salt, place;
    uint32_t count, seed, checksum;
    uint8_t *entries, *odd; /* Slot and uint32_t, which may lie anywhere */
    size_t odd_count;
} Run;

/* Fills `entries` and `odd`, which have room for `count` each; 0 where anything but a value is wrong.
 * Touches nothing of Python.
 */
static int verify(Run *run)
{
    size_t at = GROUP_HEADER_SIZE;
    uint32_t sum = run->seed;
    for (uint32_t number = 0; number < run->count; number++) {
        if (run->size - at < HEAD_SIZE)
            return 0;
        const uint8_t *head = run->data + at;
        uint8_t kind = head[4];
        uint16_t key_size;
        memcpy(&key_size, head + 6, 2);
        size_t value_size = load_u32(head + 8), left = run->size - at - HEAD_SIZE;
        if (kind < 1 || kind > KIND_MAX || head[5] != 0 || key_size > left ||
            value_size > left - key_size)
            return 0;
        size_t head_size = HEAD_SIZE + (size_t)key_size;
        size_t record_size = (head_size + value_size + RECORD_UNIT - 1) & ~(size_t)(RECORD_UNIT - 1);
        if (record_size > run->size - at || record_size >> 3 > SIZE_MASK ||
            crc32_of(run->seed, head + 4, head_size - 4) != load_u32(head))
            return 0;
        sum = crc32_of(sum, head, head_size);
        Slot entry = {EMPTY, (uint64_t)(record_size >> 3) << SIZE_SHIFT};
        entry.location |= run->place + (at >> 3);
        if (kind == KIND_BLOCK)
            entry.fingerprint = fingerprint_of(head + HEAD_SIZE, key_size, run->salt);
        else
            entry.location |= OTHER_KIND;
        memcpy(run->entries + number * sizeof entry, &entry, sizeof entry);
        if (kind != KIND_BLOCK ||
            crc32_of(0, head + head_size, value_size) != load_u32(head + 12)) {
            memcpy(run->odd + run->odd_count++ * sizeof number, &number, sizeof number);
        }
        at += record_size;
    }
    return sum == run->checksum && at == run->size;
}

PyObject *verify_group(PyObject *module, PyObject *args)
{
    Run run = {0};
    Py_buffer group;
    unsigned long long salt, place;
    unsigned int count, checksum, seed;
    int whole = 0;
    if (!PyArg_ParseTuple(args, "y*IIIKK", &group, &count, &checksum, &seed, &salt, &place))
        return NULL;
    PyObject *entries = NULL, *odd = NULL, *result = NULL;
    run.data = group.buf;
    run.size = (size_t)group.len;
    run.count = count;
    run.checksum = checksum;
    run.seed = seed;
    run.salt = salt;
    run.place = place;
    if (run.size < GROUP_HEADER_SIZE || run.size > UINT32_MAX ||
        count > (run.size - GROUP_HEADER_SIZE) / HEAD_SIZE) {
        result = Py_NewRef(Py_None);
        goto end;
    }
    entries = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count * (Py_ssize_t)sizeof(Slot));
    odd = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count * 4);
    if (entries == NULL || odd == NULL)
        goto end;
    run.entries = (uint8_t *)PyBytes_AS_STRING(entries);
    run.odd = (uint8_t *)PyBytes_AS_STRING(odd);
    Py_BEGIN_ALLOW_THREADS
    whole = verify(&run);
    Py_END_ALLOW_THREADS
    if (!whole)
        result = Py_NewRef(Py_None);
    else if (_PyBytes_Resize(&odd, (Py_ssize_t)run.odd_count * 4) == 0)
        result = PyTuple_Pack(2, entries, odd);
end:
    Py_XDECREF(entries);
    Py_XDECREF(odd);
    PyBuffer_Release(&group);
    return result;
}

PyObject *count_alive(PyObject *module, PyObject *args)
{
    Index *index;
    Py_buffer entries;
    if (!PyArg_ParseTuple(args, "O!y*", &IndexType, &index, &entries))
        return NULL;
    unsigned long long size_bytes = 0;
    Py_ssize_t count = 0;
    for (Py_ssize_t at = 0; at + (Py_ssize_t)sizeof(Slot) <= entries.len; at += sizeof(Slot)) {
        Slot entry;
        memcpy(&entry, (const char *)entries.buf + at, sizeof entry);
        /* The mark of other kinds is in the location, so none of them is found. */
        if (entry.fingerprint != EMPTY &&
            find_slot(index, entry.fingerprint, entry.location) != NULL) {
            size_bytes += (entry.location >> SIZE_SHIFT & SIZE_MASK) << 3;
            count++;
        }
    }
    PyBuffer_Release(&entries);
    return Py_BuildValue("nK", count, size_bytes);
}
