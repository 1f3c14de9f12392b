"""Plain, aligned lines about what happened and when; on a terminal `lab.demolive` shows more.

In: titles and events with their CLOCK_BOOTTIME. Out: lines on stdout, each at once. Must not: measure or judge anything.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

from lab.demoview import Picture

Style = Literal["", "bold", "bold red", "bold green"]
"""As rich calls them; plain lines have none."""


class NotSeen(Exception):
    """A step did not happen: the message says which, and what was seen instead."""


def now_s() -> float:
    """CLOCK_BOOTTIME in seconds, as sniffer and prober give it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_live(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Can a picture be drawn over and over there? Not in a pipe, on a terminal that cannot go back (TERM), or where colour is not wanted
    (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


class Narration:
    """Numbered steps, below each what happened after how many milliseconds."""

    def __init__(self) -> None:
        self.started_s = self.began_s = now_s()
        """When the narration, and when its current step, began."""
        self.title = ""
        """Of the current step."""
        self._steps = 0

    def line(self, text: str = "", *, style: Style = "") -> None:
        """A line as it is; `style` shows on a terminal."""
        print(text, flush=True)

    def watching(self, observe: Callable[[], Picture]) -> contextlib.AbstractContextManager[object]:
        """Show what can be observed, while this is open; plain lines show nothing of it."""
        return contextlib.nullcontext()

    def step(self, title: str) -> None:
        """Begin a step: times count from here."""
        self._steps += 1
        self.line(f"\n{self._steps}. {title}", style="bold")
        self.title = f"{self._steps}. {title}"
        self.began_s = now_s()

    def event(self, text: str, at_s: float | None = None) -> None:
        """What happened, at `at_s` (CLOCK_BOOTTIME), now if not given."""
        elapsed_s = (now_s() if at_s is None else at_s) - self.began_s
        self.line(f"{elapsed_s * 1000:10.1f} ms  {text}")

    def detail(self, text: str) -> None:
        """More about the line above."""
        self.line(f"{'':15}{text}")
