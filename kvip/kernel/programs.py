"""Which programs run on this machine, by name.

In: /proc of this PID namespace, or of a host whose root is mounted elsewhere. Out: names. It looks at names only, and keeps nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

_HOSTS_PIDS: Final = 0xEFFFFFFC
"""Inode of the first PID namespace (PROC_PID_INIT_INO of linux/proc_ns.h)."""


def running(names: Collection[str], root: Path) -> frozenset[str]:
    """Those of the names (comm, at most 15 bytes) that are a running program's.

    Raises OSError where not every process of the machine can be seen. `root`: "/", or where the host's root is mounted.
    """
    proc = root / "proc"
    if root == Path("/") and os.stat("/proc/self/ns/pid").st_ino != _HOSTS_PIDS:
        raise PermissionError(1, "this is a PID namespace of its own, such as a container's")
    found = (_comm(entry) for entry in proc.iterdir() if entry.name.isdecimal())
    return frozenset(comm for comm in found if comm in names)


def _comm(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return ""  # It ended meanwhile.
