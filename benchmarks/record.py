"""Keeps suites as JSON, and makes docs/performance.md and the plots of what is kept.

In: suites of a run, a directory. Out: <name>.json and <name>.svg in it, and the document beside it, from all that is kept there.
By hand, to make the document anew: `python -m benchmarks.record`.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.figures import Machine, Suite
from benchmarks.plot import svg
from benchmarks.tables import document

ROOT = Path(__file__).parent.parent
DIRECTORY = ROOT / "docs" / "performance"
ORDER = ("frames", "switch", "addresses", "control", "stalls", "view", "takeover", "churn", "cost", "scale")


def machine() -> Machine:
    """This machine, now."""
    info = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    models = (value.strip() for key, value in info.items() if key.strip() in ("model name", "CPU part"))
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    idle = os.sched_getscheduler(0) == os.SCHED_IDLE
    return Machine(
        cpu=next(models, platform.machine()),
        cpus=len(os.sched_getaffinity(0)),
        memory_gib=memory_kib / 2**20,
        kernel=platform.release(),
        python=platform.python_version(),
        scheduling="idle" if idle else "normal",
        load=os.getloadavg()[0],
    )


def commit() -> str:
    """What was measured: the commit, with a "+" when the tree differs from it; "unknown" outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "kvip", "benchmarks", "lab")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def stamp(suite: Suite, *, command: str, on: Machine) -> None:
    """Say when, where and by which command the figures were taken."""
    suite.date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    suite.command, suite.commit, suite.machine = command, commit(), on


def keep(suites: Iterable[Suite], directory: Path = DIRECTORY) -> None:
    """Write these suites in place of what is kept of them, and the document of all that is kept."""
    directory.mkdir(parents=True, exist_ok=True)
    for suite in suites:
        path = directory / f"{suite.name}.json"
        path.with_suffix(".new").write_bytes(msgspec.json.format(msgspec.json.encode(suite), indent=1) + b"\n")
        path.with_suffix(".new").replace(path)
    write_document(directory)


def ordered(suites: Iterable[Suite]) -> list[Suite]:
    """In the order of the document."""
    return sorted(suites, key=lambda suite: ORDER.index(suite.name) if suite.name in ORDER else len(ORDER))


def write_document(directory: Path = DIRECTORY) -> None:
    """docs/performance.md and the plots, from the JSON."""
    kept = [msgspec.json.decode(path.read_bytes(), type=Suite) for path in directory.glob("*.json")]
    kept = ordered(kept)
    for suite in kept:
        (directory / f"{suite.name}.svg").write_text(svg(suite))
    directory.with_suffix(".md").write_text(document(kept))


if __name__ == "__main__":
    write_document()
