# cython: language_level=3, freethreading_compatible=True
"""Frames of announcements, built into one buffer, and the one system call that sends a batch of them.

In: a MAC, addresses, a file descriptor. Out: bytes, and how many frames left.
Must not hold policy: no pacing, no retry, no permit; those are the announcer's. `kvip._arp_py` is the twin
without a compiler: same names, same bytes, same errors.
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from kvip._text cimport pack_text


cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    cdef struct mmsghdr:
        msghdr msg_hdr
    enum: MSG_DONTWAIT
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)

cdef enum:
    ARP_LEN = 60  # the shortest Ethernet frame, without its checksum (IEEE 802.3)
    NA_LEN = 86   # Ethernet 14, IPv6 40, ICMPv6 24, option 8
    BATCH_MAX = 1024  # UIO_MAXIOV: the kernel cuts longer batches (sendmmsg(2))

ARP_FRAME_LEN = ARP_LEN
NA_FRAME_LEN = NA_LEN
MAX_BATCH = BATCH_MAX

# Ethertype, hardware and protocol type and their sizes, operation 1 (RFC 826).
cdef const char *ARP_HEAD = b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01"
# From Ethernet destination to ethertype, the source left open: ff02::1 maps to 33:33:00:00:00:01 (RFC 2464 section 7).
cdef const char *NA_ETHERNET = b"\x33\x33\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x86\xdd"
# Version 6, payload length 32, next header 58, hop limit 255 (RFC 4861 section 7.1.2: anything less is dropped).
cdef const char *NA_IPV6 = b"\x60\x00\x00\x00\x00\x20\x3a\xff"
cdef const char *ALL_NODES = b"\xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"


cdef void fill_arp(unsigned char *out, const unsigned char *mac, const unsigned char *vips, Py_ssize_t count) noexcept nogil:
    cdef unsigned char request[ARP_LEN]
    cdef unsigned char reply[ARP_LEN]
    cdef Py_ssize_t _
    memset(request, 0, ARP_LEN)
    memset(request, 0xFF, 6)
    memcpy(request + 6, mac, 6)
    memcpy(request + 12, ARP_HEAD, 10)
    memcpy(request + 22, mac, 6)
    memcpy(reply, request, ARP_LEN)
    reply[21] = 2
    memcpy(reply + 32, mac, 6)
    for _ in range(count):
        memcpy(request + 28, vips, 4)
        memcpy(request + 38, vips, 4)
        memcpy(reply + 28, vips, 4)
        memcpy(reply + 38, vips, 4)
        memcpy(out, request, ARP_LEN)
        memcpy(out + ARP_LEN, reply, ARP_LEN)
        out += 2 * ARP_LEN
        vips += 4


cdef uint32_t add_words(const unsigned char *data, Py_ssize_t length) noexcept nogil:
    cdef uint32_t total = 0
    cdef Py_ssize_t i
    for i in range(0, length, 2):
        total += (<uint32_t>data[i] << 8) | data[i + 1]
    return total


cdef void fill_na(
    unsigned char *out, const unsigned char *mac, const unsigned char *vips, Py_ssize_t count, unsigned char flags
) noexcept nogil:
    cdef unsigned char frame[NA_LEN]
    cdef uint32_t fixed, total
    cdef Py_ssize_t _
    memset(frame, 0, NA_LEN)
    memcpy(frame, NA_ETHERNET, 14)
    memcpy(frame + 6, mac, 6)
    memcpy(frame + 14, NA_IPV6, 8)
    memcpy(frame + 38, ALL_NODES, 16)
    frame[54] = 136
    frame[58] = flags
    frame[78] = 2
    frame[79] = 1
    memcpy(frame + 80, mac, 6)
    # RFC 8200 section 8.1: the pseudo-header (addresses, length 32, next header 58) and the message, checksum 0.
    # Source and target are zero here; both are the VIP, so its words count twice.
    fixed = add_words(frame + 38, NA_LEN - 38) + 32 + 58
    for _ in range(count):
        memcpy(frame + 22, vips, 16)
        memcpy(frame + 62, vips, 16)
        total = fixed + 2 * add_words(vips, 16)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        total = ~total & 0xFFFF
        memcpy(out, frame, NA_LEN)
        out[56] = <unsigned char>(total >> 8)
        out[57] = <unsigned char>(total & 0xFF)
        out += NA_LEN
        vips += 16


cdef int check_sizes(bytes mac, bytes vips, Py_ssize_t address_len) except -1:
    if len(mac) != 6:
        raise ValueError(f"mac is {len(mac)} bytes, must be 6")
    if len(vips) % address_len:
        raise ValueError(f"vips is {len(vips)} bytes, must be a multiple of {address_len}")
    return 0


cdef bytes arp_frames(bytes mac, bytes vips):
    check_sizes(mac, vips, 4)
    cdef Py_ssize_t count = len(vips) // 4
    cdef bytes buffer = PyBytes_FromStringAndSize(NULL, count * 2 * ARP_LEN)
    cdef unsigned char *out = <unsigned char *>PyBytes_AsString(buffer)
    cdef const unsigned char *mac_start = <const unsigned char *>PyBytes_AsString(mac)
    cdef const unsigned char *vips_start = <const unsigned char *>PyBytes_AsString(vips)
    if count:  # without bytes to write, `out` is the interpreter's one empty object
        with nogil:
            fill_arp(out, mac_start, vips_start, count)
    return buffer


cdef bytes na_frames(bytes mac, bytes vips, bint router):
    check_sizes(mac, vips, 16)
    cdef Py_ssize_t count = len(vips) // 16
    cdef bytes buffer = PyBytes_FromStringAndSize(NULL, count * NA_LEN)
    cdef unsigned char *out = <unsigned char *>PyBytes_AsString(buffer)
    cdef const unsigned char *mac_start = <const unsigned char *>PyBytes_AsString(mac)
    cdef const unsigned char *vips_start = <const unsigned char *>PyBytes_AsString(vips)
    # RFC 4861 section 4.4: Router 0x80, Solicited 0x40, Override 0x20.
    cdef unsigned char flags = 0xA0 if router else 0x20
    if count:
        with nogil:
            fill_na(out, mac_start, vips_start, count, flags)
    return buffer


def build_arp(bytes mac not None, bytes vips not None):
    return arp_frames(mac, vips)


def build_na(bytes mac not None, bytes vips not None, *, bint router):
    return na_frames(mac, vips, router)


def build_round(bytes mac not None, vips not None, *, bint router=False):
    cdef Py_ssize_t count = len(vips), fours = 0, size
    cdef unsigned char packed[16]
    cdef bytes ipv4 = PyBytes_FromStringAndSize(NULL, 4 * count)
    cdef unsigned char *out = <unsigned char *>PyBytes_AsString(ipv4)
    cdef list ipv6 = [], groups = []
    for vip in vips:
        size = pack_text(vip, packed)
        if size == 4 and fours < count:
            memcpy(out + 4 * fours, packed, 4)
            fours += 1
        elif size == 16:
            ipv6.append(PyBytes_FromStringAndSize(<const char *>packed, 16))
        else:
            raise ValueError(f"{vip!r} is not an IP address")
    if fours:
        groups.append((arp_frames(mac, ipv4 if fours == count else ipv4[:4 * fours]), ARP_LEN))
    if ipv6:
        groups.append((na_frames(mac, b"".join(ipv6), router), NA_LEN))
    return groups


cdef int send_now(int fd, char *start, size_t frame_len, int count, int *error) noexcept nogil:
    cdef mmsghdr messages[BATCH_MAX]
    cdef iovec vectors[BATCH_MAX]
    cdef int i, sent
    memset(messages, 0, count * sizeof(mmsghdr))
    for i in range(count):
        vectors[i].iov_base = start + i * frame_len
        vectors[i].iov_len = frame_len
        messages[i].msg_hdr.msg_iov = &vectors[i]
        messages[i].msg_hdr.msg_iovlen = 1
    sent = sendmmsg(fd, messages, <unsigned int>count, MSG_DONTWAIT)
    error[0] = errno if sent < 0 else 0
    return sent


def send_batch(int fd, frames, Py_ssize_t frame_len):
    cdef Py_buffer view
    cdef Py_ssize_t count
    cdef int sent, error = 0
    if frame_len < 1:
        raise ValueError(f"frame_len is {frame_len}, must be at least 1")
    PyObject_GetBuffer(frames, &view, PyBUF_SIMPLE)
    try:
        count = view.len // frame_len
        if view.len % frame_len:
            raise ValueError(f"frames is {view.len} bytes, must be a multiple of frame_len {frame_len}")
        if count > BATCH_MAX:
            raise ValueError(f"frames holds {count} frames, must be at most {BATCH_MAX}")
        if count == 0:
            return 0
        with nogil:
            sent = send_now(fd, <char *>view.buf, <size_t>frame_len, <int>count, &error)
    finally:
        PyBuffer_Release(&view)
    if sent >= 0:
        return sent
    # EWOULDBLOCK is EAGAIN on Linux (asm-generic/errno.h).
    if error == ENOBUFS or error == EAGAIN or error == EINTR:
        return 0
    raise OSError(error, os.strerror(error))
