"""Plain, aligned lines about what happened and when; colour on a terminal only.

In: titles and events with their CLOCK_BOOTTIME. Out: lines on stdout, each at once. Must not: measure or judge anything.
"""

from __future__ import annotations

import os
import sys
import time


class NotSeen(Exception):
    """A step did not happen: the message says which, and what was seen instead."""


def now_s() -> float:
    """CLOCK_BOOTTIME in seconds, as sniffer and prober give it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Narration:
    """Numbered steps, below each what happened after how many milliseconds."""

    def __init__(self) -> None:
        self.began_s = now_s()
        """When the current step began."""
        self._steps = 0
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def line(self, text: str = "", *, style: str = "") -> None:
        """A line as it is; `style` is an SGR parameter (ECMA-48) such as "1" for bold."""
        print(f"\033[{style}m{text}\033[0m" if style and self._colour else text, flush=True)

    def step(self, title: str) -> None:
        """Begin a step: times count from here."""
        self._steps += 1
        self.line(f"\n{self._steps}. {title}", style="1")
        self.began_s = now_s()

    def event(self, text: str, at_s: float | None = None) -> None:
        """What happened, at `at_s` (CLOCK_BOOTTIME), now if not given."""
        elapsed_s = (now_s() if at_s is None else at_s) - self.began_s
        self.line(f"{elapsed_s * 1000:10.1f} ms  {text}")

    def detail(self, text: str) -> None:
        """More about the line above."""
        self.line(f"{'':15}{text}")
