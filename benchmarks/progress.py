"""Which benchmarks of a run have ended and how, so that a table says of each figure that is not in it why it is not.

In: what pytest collected and reported. Out: a suite with what was not measured.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from benchmarks.figures import Skipped, Suite


class Item(Protocol):
    """A benchmark that pytest collected."""

    nodeid: str


class Report(Protocol):
    """What pytest says of a phase of one."""

    nodeid: str
    when: str
    failed: bool
    skipped: bool

    longrepr: object
    """Of one that was skipped: (path, line, reason)."""

    @property
    def longreprtext(self) -> str:
        """Where and why it failed."""


class Progress:
    """Of one run."""

    def __init__(self) -> None:
        self._why: dict[str, str] = {}

    def expect(self, items: Iterable[Item]) -> None:
        """These will be run, if nothing breaks the run off."""
        self._why = dict.fromkeys((item.nodeid for item in items), "the run has not come to it")

    def report(self, report: Report) -> None:
        """One phase of one benchmark has ended."""
        if report.failed:
            self._why[report.nodeid] = f"it failed: {_error_of(report.longreprtext)}"
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self._why[report.nodeid] = str(reason).removeprefix("Skipped: ")
        elif report.when == "call":
            self._why.pop(report.nodeid, None)

    def complete(self, suite: Suite) -> Suite:
        """The suite with what is not in it, and why."""
        mine = [Skipped(name=_name(nodeid), reason=why) for nodeid, why in self._why.items() if suite_of(nodeid) == suite.name]
        return msgspec.structs.replace(suite, skipped=[*suite.skipped, *mine])

    def elsewhere(self, names: Container[str]) -> Iterator[str]:
        """A line for each that is not in any of these suites."""
        for nodeid, why in self._why.items():
            if suite_of(nodeid) not in names:
                yield f"not measured: {suite_of(nodeid)}, {_name(nodeid)}: {why}"


def suite_of(nodeid: str) -> str:
    """Each suite is one file, of its name."""
    return Path(nodeid.partition("::")[0]).stem.removeprefix("test_")


def _name(nodeid: str) -> str:
    name, bracket, case = nodeid.rpartition("::")[2].removeprefix("test_").partition("[")
    return name.replace("_", " ") + bracket + case


def _error_of(text: str) -> str:
    """The error itself, of a traceback as pytest prints it."""
    errors = [line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E ")]
    lines = errors[:1] or [line.strip() for line in text.splitlines() if line.strip()][-1:] or ["no reason was given"]
    return lines[0][:200]
