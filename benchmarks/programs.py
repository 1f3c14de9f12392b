"""The programs of others that kvip is measured beside, which a machine may lack.

In: PATH. Out: what is missing. `python -m benchmarks.programs` says it before a run; the run leaves out what is missing and names it.
"""

from __future__ import annotations

import shutil
import sys

PROGRAMS = {"keepalived": "keepalived", "arping": "arping"}
"""By name: the Debian package. iputils-arping has an `arping` as well, which does."""


def why_skipped(name: str) -> str:
    """What the table says of a program that is not there."""
    return f"it is not installed (apt-get install -y {PROGRAMS[name]})"


def warnings() -> list[str]:
    """A line for each that PATH does not have."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return [f"!! {name} WILL NOT BE MEASURED: {why_skipped(name)}" for name in missing]


if __name__ == "__main__":
    for line in warnings():
        print(line, file=sys.stderr)
