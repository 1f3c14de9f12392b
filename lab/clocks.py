"""Clocks of one daemon that a test can move: the wall clock, and CLOCK_BOOTTIME as a suspend moves it.

In: a directory, a C compiler. Out: `Clocks`, the environment for a daemon (`env`) and the jumps. CLOCK_REALTIME is the
machine's, no namespace has its own (time_namespaces(7): CLOCK_MONOTONIC and CLOCK_BOOTTIME only, and only at start), so a small
library is preloaded. The kernel's timers are not moved, as in a real jump; in a real suspend they stand still.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from lab.netns import LabError

_SOURCE = Path(__file__).with_name("clocks.c")
_BILLION = 1_000_000_000


class Clocks:
    """Compiles the library into `directory`. Jumps take effect at once, for every daemon started with `env`."""

    def __init__(self, directory: Path) -> None:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise LabError("moving a daemon's clocks needs a C compiler")
        library = directory / "clocks.so"
        done = subprocess.run(
            [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise LabError(f"{compiler} {_SOURCE.name}: {done.stderr.strip()}")
        self._file = directory / "clocks"
        self._wall_ns = self._boot_ns = 0
        self._write()
        self.env = {"LD_PRELOAD": str(library), "KVIP_LAB_CLOCKS": str(self._file)}

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock, forward or back."""
        self._wall_ns += int(seconds * _BILLION)
        self._write()

    def suspend(self, seconds: float) -> None:
        """Let CLOCK_BOOTTIME run ahead of CLOCK_MONOTONIC, as a suspend of that length does."""
        self._boot_ns += int(seconds * _BILLION)
        self._write()

    def _write(self) -> None:
        mode = "r+b" if self._file.exists() else "wb"
        with self._file.open(mode) as file:  # in place: the daemon has mapped it
            file.write(struct.pack("=qq", self._wall_ns, self._boot_ns))
