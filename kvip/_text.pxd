# Addresses from text, for the extension modules of kvip: inline, so there is nothing to link or to import.

from libc.string cimport strchr, strlen


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET
        AF_INET6
    int inet_pton(int family, const char *text, void *out)


cdef inline Py_ssize_t pack_text(object address, unsigned char *out) except -1:
    """Network-order bytes of an address into `out`, which has room for 16. Returns how many: 4, 16, or 0 for no address."""
    cdef Py_ssize_t size = 0
    cdef const char *text = PyUnicode_AsUTF8AndSize(address, &size)
    if <Py_ssize_t>strlen(text) != size:
        return 0
    if strchr(text, c":") != NULL:
        return 16 if inet_pton(AF_INET6, text, out) == 1 else 0
    return 4 if inet_pton(AF_INET, text, out) == 1 else 0
