"""Socket filters: what passes every check is kept or dropped, in the kernel."""

import socket

import pytest

from kvip.kernel.filters import AT_LEAST, BYTE, DROP, EQUAL, GREATER, HALF, WHOLE, WORD, attach

CHECKS = ((BYTE, 0, EQUAL, 7, True), (HALF, 1, AT_LEAST, 0x0102, True), (WORD, 3, GREATER, 5, False))


def let_in(datagrams, **kept):
    """Of these, what a filtered socket hears."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        attach(ours, CHECKS, **kept)
        for datagram in datagrams:
            try:
                theirs.send(datagram)
            except PermissionError:  # a filter's refusal is told to the sender of a local socket (net/unix/af_unix.c)
                pass
        heard = []
        while True:
            try:
                heard.append(ours.recv(99))
            except BlockingIOError:
                return heard


MATCHING = bytes([7, 1, 2, 0, 0, 0, 5])
OTHERS = [bytes([8, 1, 2, 0, 0, 0, 5]), bytes([7, 1, 1, 0, 0, 0, 5]), bytes([7, 1, 2, 0, 0, 0, 6])]


@pytest.mark.parametrize("other", OTHERS)
def test_only_what_passes_every_check_is_kept(other):
    assert let_in([other, MATCHING], matched=WHOLE, others=DROP) == [MATCHING]


@pytest.mark.parametrize("other", OTHERS)
def test_only_what_passes_every_check_is_dropped(other):
    assert let_in([other, MATCHING], matched=DROP, others=WHOLE) == [other]


def test_so_much_is_kept_of_what_passes():
    assert let_in([MATCHING], matched=3, others=DROP) == [MATCHING[:3]]
