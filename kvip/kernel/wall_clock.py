"""Is the wall clock kept in step with others? In: adjtimex(2), reading only. Out: an answer."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_STA_UNSYNC: Final = 0x0040
"""linux/timex.h; set when nobody disciplined the clock for long (adjtimex(2))."""
_TIMEX_BYTES: Final = 256
"""struct timex has 208 bytes on 64-bit machines."""
_STATUS_AT: Final = 5 * ctypes.sizeof(ctypes.c_long)
"""Behind modes (an int, padded), offset, freq, maxerror and esterror, which are longs."""


def synchronised() -> bool:
    """Does the kernel take its wall clock to be synchronised? Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    if libc.adjtimex(timex) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return not ctypes.c_int.from_buffer(timex, _STATUS_AT).value & _STA_UNSYNC
