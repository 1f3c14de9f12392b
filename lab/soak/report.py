"""What a soak found, as text for a terminal and as Markdown for docs/. In: a `Result`. Out: lines. It must not judge."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping

import msgspec

from kvip import __version__
from lab.soak.model import FAULT_KINDS, SERVICE_KINDS, Violation
from lab.soak.silence import Row

VIOLATIONS_TOLD = 20


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What one daemon used at its first and at its last measurement."""

    node: str
    pid: int
    age_s: float
    rss_mib: tuple[float, float]
    fds: tuple[int, int]
    """Descriptors but for TCP connections."""
    connections: tuple[int, int]
    threads: tuple[int, int]
    tasks: tuple[int, int]
    cpu_s: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known after a soak."""

    seed: int
    seconds: float
    api: str
    settings: Mapping[str, str]
    took_s: float
    done: Mapping[str, int]
    skipped: Mapping[str, int]
    failed: Mapping[str, int]
    two_answers_s: float
    left_over: tuple[tuple[str, str], ...]
    silences: Mapping[str, Row]
    converged_s: tuple[float, ...]
    violations: tuple[Violation, ...]
    lives: tuple[Life, ...]
    notes: tuple[str, ...]

    @property
    def command(self) -> str:
        """What replays it."""
        words = ["python -m lab.soak", f"--seconds {self.seconds:g}", f"--seed {self.seed}", f"--api {self.api}"]
        return " ".join([*words, *(f"--env {key}={value}" for key, value in self.settings.items())])


def machine() -> dict[str, str]:
    """Where it ran."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "nft": _first_line("nft", "--version"),
        "Python": platform.python_version(),
        "kvip": f"{__version__} {_first_line('git', 'describe', '--always', '--dirty')}".strip(),
    }


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, cwd=os.path.dirname(__file__))
    except OSError:
        return ""
    return (done.stdout.splitlines() or [""])[0]


def text(result: Result) -> str:
    """For a terminal."""
    return "\n".join(_lines(result))


def markdown(result: Result) -> str:
    """For a file."""
    head = ["# Soak", "", *(f"- {key}: {value}" for key, value in machine().items() if value), ""]
    return "\n".join([*head, "```", *_lines(result), "```", ""])


def _lines(result: Result) -> Iterator[str]:
    yield f"soak: {result.took_s:.0f} s, seed {result.seed}, {result.api} API server; replay: {result.command}"
    yield f"operations done: {_counts(result.done, SERVICE_KINDS)}"
    yield f"faults injected: {_counts(result.done, FAULT_KINDS)}"
    if result.skipped or result.failed:
        yield f"skipped (made no sense any more): {_counts(result.skipped)}; failed (no answer): {_counts(result.failed)}"
    yield f"seconds with two answers: {result.two_answers_s:.2f}"
    where = ", ".join(f"{vip} on {node}" for node, vip in result.left_over)
    yield f"leftovers: {len(result.left_over)}{' ' if where else ''}{where}"
    yield f"converged after healing: {', '.join(f'{seconds:.1f} s' for seconds in result.converged_s) or 'never'}"
    yield "longest silence of a living VIP, by the fault in force:"
    for cause, row in sorted(result.silences.items(), key=lambda item: (item[1].bound_s is None, item[0])):
        bound = f"bound {row.bound_s:g} s" if row.bound_s is not None else "no bound"
        yield f"  {cause:<24} {row.longest_s:6.2f} s   {bound:<12} {row.gaps} gaps, longest {row.vip}"
    yield "daemons, first to last measurement:"
    for life in result.lives:
        rss, fds, connections, threads = life.rss_mib, life.fds, life.connections, life.threads
        yield (
            f"  {life.node} pid {life.pid}: {life.age_s:.0f} s, RSS {rss[0]:.1f} -> {rss[1]:.1f} MiB, fds {fds[0]} -> {fds[1]}, "
            f"connections {connections[0]} -> {connections[1]}, "
            f"threads {threads[0]} -> {threads[1]}, tasks {life.tasks[0]} -> {life.tasks[1]}, "
            f"{100 * life.cpu_s / max(life.age_s, 1):.1f} % of a core"
        )
    yield from (f"note: {note}" for note in result.notes)
    yield f"violations: {len(result.violations)}"
    for violation in result.violations[:VIOLATIONS_TOLD]:
        times = f" ({violation.count} times until {violation.last_s:.3f})" if violation.count > 1 else ""
        more = f"; also {', '.join(violation.vips[1:])}" if violation.vips[1:] else ""
        yield f"  {violation.invariant} at {violation.at_s:.3f} s: {violation.what}{more}{times} [seed {result.seed}]"
        yield from (f"      {line}" for line in violation.details)
    if len(result.violations) > VIOLATIONS_TOLD:
        yield f"  ... and {len(result.violations) - VIOLATIONS_TOLD} more"


def _counts(counts: Mapping[str, int], kinds: tuple[str, ...] = ()) -> str:
    found = {kind: counts[kind] for kind in (kinds or sorted(counts)) if counts.get(kind)}
    return f"{sum(found.values())} ({', '.join(f'{kind} {count}' for kind, count in found.items())})" if found else "0"
