# cython: language_level=3, freethreading_compatible=True
"""Address changes over rtnetlink by the thousand: requests built and answers matched without a Python object for each message.

In: operations, a netlink socket, a buffer. Out: request bytes, and what the kernel said filed in the batch. What differs from an
earlier message in its address only is copied or compared; everything else goes to the Python code that was given (`encode`,
`look_into`), which also makes the first of each kind. Must not hold policy. `kvip._rtnl_py` is the twin without a compiler.
"""

import os

from msgspec.structs import astuple

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.object cimport Py_EQ, PyObject
from libc.errno cimport EADDRNOTAVAIL, EMSGSIZE
from libc.stdint cimport int32_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from kvip._datagrams cimport DATAGRAMS, NLMSG_ERROR, aligned, half, receive_now, word
from kvip._text cimport AF_INET, AF_INET6, pack_text


cdef extern from "Python.h":
    # Without a reference taken: both tuples outlive the comparison.
    PyObject *PyTuple_GetItem(tuple of, Py_ssize_t place) except NULL
    int PyObject_RichCompareBool(PyObject *one, PyObject *other, int operation) except -1

cdef extern from "<linux/rtnetlink.h>" nogil:
    enum:
        RTM_NEWADDR
        RTM_DELADDR
        RTM_GETADDR
        IFA_ADDRESS
        IFA_LOCAL
        IFA_CACHEINFO

cdef enum:
    HEAD_LEN = 16      # nlmsghdr: length, type, flags, sequence, port
    ATTRIBUTES = 24    # behind nlmsghdr and ifaddrmsg
    FIRST_VALUE = 28   # of the first attribute: IFA_LOCAL or IFA_ADDRESS
    MOST_FIELDS = 16   # of an address
    ROOM = 256         # no request of one operation and no address message is longer
    SHORTEST = 72      # an address message with IFA_ADDRESS and IFA_CACHEINFO, IPv4 with IFA_LOCAL too

MAX_DATAGRAMS = DATAGRAMS

# All that a delete names of an address beside itself (codec.encode_change); other changes name all there is.
cdef tuple DELETE_FIELDS = ("prefix_len", "index", "peer")


# -- requests ------------------------------------------------------------------------------------------------------------

cdef bint places(const unsigned char *group, Py_ssize_t size, const unsigned char *packed, Py_ssize_t width) noexcept nogil:
    """Is the address where `write_places` puts one, in each message of the group?"""
    cdef Py_ssize_t at = 0, length
    while at < size:
        if size - at < HEAD_LEN:
            return False
        length = word(group + at)
        if length < FIRST_VALUE + width or length > size - at or memcmp(group + at + FIRST_VALUE, packed, width) != 0:
            return False
        if half(group + at + 4) != RTM_GETADDR:
            if length < FIRST_VALUE + 4 + 2 * width or memcmp(group + at + FIRST_VALUE + 4 + width, packed, width) != 0:
                return False
        at += aligned(length)
    return at == size


cdef void write_places(
    unsigned char *group, Py_ssize_t size, const unsigned char *packed, Py_ssize_t width, uint32_t sequence
) noexcept nogil:
    """Sequence numbers, and the address as IFA_LOCAL and IFA_ADDRESS of a change, as IFA_ADDRESS of a question."""
    cdef Py_ssize_t at = 0
    while at < size:
        memcpy(group + at + 8, &sequence, 4)
        memcpy(group + at + FIRST_VALUE, packed, width)
        if half(group + at + 4) != RTM_GETADDR:
            memcpy(group + at + FIRST_VALUE + 4 + width, packed, width)
        sequence += 1
        at += aligned(word(group + at))


cdef int compared_fields(names, kind, Py_ssize_t *places) except -1:
    """Where the values are that a change of this kind names, but for the address itself; returns how many."""
    cdef Py_ssize_t place
    cdef int count = 0
    if len(names) > MOST_FIELDS:
        raise ValueError(f"an address of {len(names)} fields, must be at most {MOST_FIELDS}")
    for place in range(len(names)):
        if names[place] in DELETE_FIELDS or (kind != "delete" and names[place] != "ip"):
            places[count] = place
            count += 1
    return count


cdef bint same_fields(tuple values, tuple last, const Py_ssize_t *places, int count) except -1:
    cdef int number
    cdef PyObject *one
    cdef PyObject *other
    for number in range(count):
        one, other = PyTuple_GetItem(values, places[number]), PyTuple_GetItem(last, places[number])
        if one != other and not PyObject_RichCompareBool(one, other, Py_EQ):
            return False
    return True


def encode_changes(operations, Py_ssize_t start, Py_ssize_t stop, uint32_t sequence, encode):
    cdef bytearray out = bytearray(max(stop - start, 0) * ROOM)
    cdef unsigned char packed[16]
    cdef Py_ssize_t where[MOST_FIELDS]
    cdef Py_ssize_t width, last_width = 0, size = 0, at = 0, ip = 0
    cdef int fields = 0
    cdef Py_buffer view
    cdef unsigned char *base
    cdef bytes group
    cdef tuple values, last = ()
    last_kind = last_type = None
    PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
    try:
        base = <unsigned char *>view.buf
        for operation in operations[start:stop]:
            kind, address = operation.kind, operation.address
            if type(address) is not last_type:
                last_type, last_kind = type(address), None
                ip = address.__struct_fields__.index("ip")
            values = astuple(address)
            width = pack_text(values[ip], packed)
            if width and width == last_width and (kind is last_kind or kind == last_kind) and same_fields(values, last, where, fields):
                memcpy(base + at, base + at - size, size)
                write_places(base + at, size, packed, width, sequence)
            else:
                group = encode(operation, sequence)
                size = len(group)
                if size > ROOM:
                    raise ValueError(f"request of {size} bytes, must be at most {ROOM}")
                memcpy(base + at, PyBytes_AsString(group), size)
                last_width = width if width and places(base + at, size, packed, width) else 0
                last_kind, last = kind, values
                fields = compared_fields(address.__struct_fields__, kind, where)
            at += size
            sequence += 2
    finally:
        PyBuffer_Release(&view)
    return bytes(out[:at])


# -- answers -------------------------------------------------------------------------------------------------------------

def receive(sock, buffer, Py_ssize_t slot):
    cdef Py_buffer view
    cdef int lengths[DATAGRAMS]
    cdef int fd = sock.fileno()
    cdef int i, got, error = 0
    cdef Py_ssize_t count
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        count = min(view.len // slot, <Py_ssize_t>DATAGRAMS)
        with nogil:
            got = receive_now(fd, <char *>view.buf, slot, <int>count, lengths, &error)
    finally:
        PyBuffer_Release(&view)
    if got < 0:
        raise OSError(error, os.strerror(error))
    return [lengths[i] for i in range(got)]


cdef struct Known:
    # An address message that was looked into and filed; `length` 0 = none yet.
    Py_ssize_t length
    unsigned char data[ROOM]


cdef bint is_plain(const unsigned char *data, Py_ssize_t length, bint six) noexcept nogil:
    """Are the address and its times where `is_alike` leaves them out, and nowhere else? See kvip/kernel/recurring.py."""
    cdef Py_ssize_t at = ATTRIBUTES, size, times = 0
    cdef int addresses = 0, locals_ = 0, cacheinfos = 0
    cdef uint16_t kind
    while at + 4 <= length:
        size, kind = half(data + at), half(data + at + 2) & 0x3FFF
        if size < 4 or size > length - at:
            return False
        if kind == IFA_ADDRESS:
            addresses += 1
        elif kind == IFA_LOCAL:
            locals_ += 1
        elif kind == IFA_CACHEINFO:
            cacheinfos += 1
            times = at
        at += aligned(size)
    if at != length or addresses != 1 or cacheinfos != 1 or half(data + times) != 20:
        return False
    if half(data + ATTRIBUTES + 2) != IFA_ADDRESS:
        return False
    if six:
        return locals_ == 0 and half(data + ATTRIBUTES) == 20 and times == ATTRIBUTES + 20
    return (
        locals_ == 1 and half(data + ATTRIBUTES) == 8 and half(data + ATTRIBUTES + 8) == 8
        and half(data + ATTRIBUTES + 10) == IFA_LOCAL and times == length - 20
    )


cdef bint is_alike(
    const unsigned char *data, const unsigned char *known, Py_ssize_t length, const unsigned char *request, bint six
) noexcept nogil:
    """Does the message say of the request's address what the known one says of its own? Left out: sequence number, and the
    times at which the address was made and changed. Family, prefix length, NIC and address must be the request's."""
    if data[16] != request[16] or data[17] != request[17] or memcmp(data + 20, request + 20, 4) != 0:
        return False
    if memcmp(data, known, 8) != 0 or memcmp(data + 12, known + 12, FIRST_VALUE - 12) != 0:
        return False
    if six:
        return (
            memcmp(data + 28, request + FIRST_VALUE, 16) == 0
            and memcmp(data + 44, known + 44, 12) == 0
            and memcmp(data + 64, known + 64, length - 64) == 0
        )
    return (
        memcmp(data + 28, request + FIRST_VALUE, 4) == 0
        and memcmp(data + 32, known + 32, 4) == 0
        and memcmp(data + 36, request + FIRST_VALUE, 4) == 0
        and memcmp(data + 40, known + 40, length - 48) == 0
    )


cdef const unsigned char *find_request(const unsigned char *requests, Py_ssize_t size, Py_ssize_t *at, uint32_t sequence) noexcept nogil:
    """The request of that sequence number, from `at` on, which stays there: answers come in the order of the requests."""
    cdef Py_ssize_t length
    while size - at[0] >= FIRST_VALUE:
        if word(requests + at[0] + 8) == sequence:
            return requests + at[0]
        length = word(requests + at[0])
        if length < HEAD_LEN or length > size - at[0]:
            return NULL
        at[0] += aligned(length)
    return NULL


def match(batch, buffer, Py_ssize_t slot, list lengths):
    cdef bytes request = batch.request
    cdef uint32_t first = batch.first, count = batch.count, offset
    cdef Py_ssize_t start = batch.start, number, length, which, at = 0
    cdef const unsigned char *requests = <const unsigned char *>PyBytes_AsString(request)
    cdef const unsigned char *asked
    cdef const unsigned char *data
    cdef unsigned char *heard
    cdef Py_buffer view, marks
    cdef Known known[2]
    cdef bint six
    cdef uint16_t kind
    cdef list seen = batch.seen, models = [None, None]
    look_into = batch.look_into
    known[0].length = known[1].length = 0
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(batch.heard, &marks, PyBUF_WRITABLE)
        try:
            heard = <unsigned char *>marks.buf
            for number in range(len(lengths)):
                length = lengths[number]
                if length == 0:
                    continue
                data = <const unsigned char *>view.buf + number * slot
                if length > slot:
                    if word(data + 8) - first <= 2 * count:
                        raise OSError(EMSGSIZE, "datagram cut short")
                    continue
                offset = word(data + 8) - first if length >= HEAD_LEN else 2 * count
                if offset >= 2 * count or aligned(word(data)) != length:
                    look_into(PyBytes_FromStringAndSize(<const char *>data, length))
                    continue
                which, kind = start + (offset >> 1), half(data + 4)
                if kind == NLMSG_ERROR and offset & 1 and word(data) >= HEAD_LEN + 4 and <int32_t>word(data + HEAD_LEN) == -EADDRNOTAVAIL:
                    heard[which] = 1
                    continue
                six = False
                asked = NULL
                if (kind == RTM_NEWADDR or kind == RTM_DELADDR) and SHORTEST <= length <= ROOM:
                    if at > len(request) - FIRST_VALUE or word(requests + at + 8) - first > (offset & ~<uint32_t>1):
                        at = 0
                    asked = find_request(requests, len(request), &at, first + (offset & ~<uint32_t>1))
                    six = data[16] == AF_INET6
                if asked != NULL and known[six].length == length and is_alike(data, known[six].data, length, asked, six):
                    seen[which] = models[six]
                    heard[which] = 1
                    continue
                look_into(PyBytes_FromStringAndSize(<const char *>data, length))
                if asked != NULL and heard[which] and (six or data[16] == AF_INET) and is_plain(data, length, six):
                    if is_alike(data, data, length, asked, six) and (seen[which] is None) == (kind == RTM_DELADDR):
                        memcpy(known[six].data, data, length)
                        known[six].length = length
                        models[six] = seen[which]
        finally:
            PyBuffer_Release(&marks)
    finally:
        PyBuffer_Release(&view)
