# Netlink's datagrams, many of a socket in one system call, and the words in them, for the extension modules: inline, as in _text.pxd.

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy, memset


cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    enum:
        MSG_DONTWAIT
        MSG_TRUNC
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, void *timeout)

cdef extern from "<linux/netlink.h>" nogil:
    cdef struct sockaddr_nl:
        uint32_t nl_pid
    enum:
        NLMSG_ERROR

cdef enum:
    DATAGRAMS = 128


cdef inline uint16_t half(const unsigned char *at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, at, 2)
    return value


cdef inline uint32_t word(const unsigned char *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline Py_ssize_t aligned(Py_ssize_t length) noexcept nogil:
    return (length + 3) & ~3


cdef inline int receive_now(int fd, char *base, Py_ssize_t slot, int count, int *lengths, int *error) noexcept nogil:
    """Read up to `count` that wait, each at its own `slot` bytes; returns how many, -1 with `error` set.

    Their whole lengths go to `lengths`, 0 for one that another process sent.
    """
    cdef mmsghdr messages[DATAGRAMS]
    cdef iovec vectors[DATAGRAMS]
    cdef sockaddr_nl senders[DATAGRAMS]
    cdef int i, got
    memset(messages, 0, count * sizeof(mmsghdr))
    memset(senders, 0, count * sizeof(sockaddr_nl))
    for i in range(count):
        vectors[i].iov_base = base + i * slot
        vectors[i].iov_len = slot
        messages[i].msg_hdr.msg_iov = &vectors[i]
        messages[i].msg_hdr.msg_iovlen = 1
        messages[i].msg_hdr.msg_name = &senders[i]
        messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_nl)
    got = recvmmsg(fd, messages, <unsigned int>count, MSG_DONTWAIT | MSG_TRUNC, NULL)
    while got < 0 and errno == EINTR:
        got = recvmmsg(fd, messages, <unsigned int>count, MSG_DONTWAIT | MSG_TRUNC, NULL)
    error[0] = errno if got < 0 else 0
    for i in range(got):
        lengths[i] = 0 if senders[i].nl_pid else <int>messages[i].msg_len
    return got
