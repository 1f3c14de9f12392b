"""How far long work is, on one line of a terminal that is written over; nothing at all where there is no terminal.

Input: counts. Output: the line on stderr, gone when the work is done. It must not decide, nor write anywhere else.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

REDRAW_S = 0.1
_CLEAR = "\r\x1b[K"
"""To the beginning of the line, and erase to its end (ECMA-48 8.3.41)."""


class Progress:
    """A line such as `sweeping: 1280/10000 addresses, 512/s`; a context manager that takes it away again."""

    def __init__(self, what: str, unit: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._unit = unit
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._shown = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._began_s = clock()
        self._drawn_s: float | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._drawn_s is not None:
            self._write(_CLEAR)

    def at(self, count: int, total: int) -> None:
        """So much is done, of so much."""
        now_s = self._clock()
        if not self._shown or (self._drawn_s is not None and now_s - self._drawn_s < REDRAW_S):
            return
        self._drawn_s = now_s
        elapsed_s = now_s - self._began_s
        rate = f", {count / elapsed_s:,.0f}/s" if count and elapsed_s > 0 else ""
        self._write(f"{_CLEAR}{self._what}: {count}/{total} {self._unit}{rate}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
