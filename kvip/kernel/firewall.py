"""The firewall tools as child processes: nft, iptables and their variants.

In: an argument list or a script. Out: what the tool printed, or a `ToolError`. Every child has a deadline. For
commands of an administrator only: a child takes 10-30 ms. It decides nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from kvip.errors import KvipError

DEADLINE_S: Final = 15.0
"""For a whole rule set of a large node; a child that is not done by then is killed."""
_SEARCH_PATH: Final = os.pathsep.join(("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"))
"""Where these tools live: a non-login shell of an administrator may lack the sbin folders in its PATH."""


class ToolError(KvipError):
    """A firewall tool that is missing, failed, or did not end in time."""

    def __init__(self, tool: str, problem: str, *, missing: bool = False) -> None:
        self.tool = tool
        self.missing = missing
        super().__init__(f"{tool}: {problem}")


def find_tool(name: str) -> str | None:
    """The path of a tool, None when it is not installed."""
    return shutil.which(name) or shutil.which(name, path=_SEARCH_PATH)


def run_tool(tool: str, arguments: Sequence[str] = (), *, script: str = "") -> str:
    """What the tool printed. Raises `ToolError`: not installed, failed (with its own words), or not done within 15 s."""
    path = find_tool(tool)
    if path is None:
        raise ToolError(tool, "is not installed here", missing=True)
    try:
        done = subprocess.run(
            [path, *arguments],
            input=script,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=DEADLINE_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(tool, f"not done after {DEADLINE_S:g} s; killed") from error
    except OSError as error:
        raise ToolError(tool, f"cannot be run: {error.strerror or error}") from error
    if done.returncode != 0:
        raise ToolError(tool, (done.stderr or done.stdout).strip().partition("\n")[0] or f"exit code {done.returncode}")
    return done.stdout
