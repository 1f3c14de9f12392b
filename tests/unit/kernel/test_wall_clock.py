"""Is the clock synchronised: the kernel's word, by a struct laid out as adjtimex(2) has it."""

import ctypes
import errno

import pytest

from kvip.kernel import wall_clock


class FakeLibc:
    def __init__(self, status, result=0):
        self.status, self.result = status, result

    def adjtimex(self, timex):
        assert ctypes.c_uint.from_buffer(timex).value == 0, "modes must be 0: nothing is set"
        # As linux/timex.h: modes, offset, freq, maxerror, esterror, status.
        ctypes.c_int.from_buffer(timex, 40).value = self.status
        ctypes.set_errno(errno.EPERM)
        return self.result


@pytest.mark.parametrize(("status", "expected"), [(0x2001, True), (0x0041, False)])
def test_the_flag_unsync_counts(monkeypatch, status, expected):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: FakeLibc(status))
    assert wall_clock.synchronised() is expected


def test_a_refusal_is_an_error(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: FakeLibc(0, result=-1))
    with pytest.raises(PermissionError):
        wall_clock.synchronised()


def test_this_kernel_answers():
    assert wall_clock.synchronised() in (True, False)
