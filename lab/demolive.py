"""The demo on a terminal: the narration scrolls by, below it a picture of the LAN is drawn over and over.

In: lines, and a function that observes. Out: what rich draws on stdout. Must not: observe by itself, or hold up the steps: it looks from a
thread of its own, a few times a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kvip.errors import KvipError
from lab.demoview import Picture, draw
from lab.narration import Narration, Style, now_s
from lab.netns import LabError

LOOK_S = 0.25
"""Between two looks."""


class LiveNarration(Narration):
    """Narration with a picture below it."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console if console is not None else Console(highlight=False)

    def line(self, text: str = "", *, style: Style = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)

    @contextlib.contextmanager
    def watching(self, observe: Callable[[], Picture]) -> Iterator[None]:
        over = threading.Event()
        with Live(console=self._console, auto_refresh=False) as live:
            thread = threading.Thread(target=self._look, args=(observe, live, over), name="picture")
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()

    def _look(self, observe: Callable[[], Picture], live: Live, over: threading.Event) -> None:
        last = False
        while not last:
            last = over.wait(LOOK_S)
            try:
                picture = observe()
            except (OSError, LabError, KvipError) as error:
                picture = Picture(trouble=str(error))
            live.update(draw(picture, step=self.title, elapsed_s=now_s() - self.began_s), refresh=True)
