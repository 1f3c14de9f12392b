"""What a benchmark found: figures, each beside a reference measured in the same run.

In: samples of ways that took turns. Out: `Figure`s in a `Suite`, which knows what was left out, on which machine and when.
It measures nothing and judges nothing but whether a stated goal is met.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

T = TypeVar("T")


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity and what it is compared with."""

    name: str
    value: float
    unit: str
    reference: str
    """What was measured beside it, in the same run and unit."""
    reference_value: float
    ratio: float
    """value / reference; of turns taken one after the other, the median of their ratios."""
    better: Literal["higher", "lower"] = "lower"
    goal: float | None = None
    goal_of: Literal["ratio", "value"] = "ratio"
    """What the goal is a bound of."""

    @property
    def judged(self) -> float:
        """What the goal is compared with."""
        return self.ratio if self.goal_of == "ratio" else self.value

    @property
    def met(self) -> bool | None:
        """None = there is no goal."""
        if self.goal is None:
            return None
        return self.judged >= self.goal if self.better == "higher" else self.judged <= self.goal

    @property
    def verdict(self) -> str:
        """ "" without a goal, else "met" or by how much it was missed, in the goal's own terms."""
        if self.goal is None:
            return ""
        unit = f" {self.unit}" if self.goal_of == "value" else ""
        return "met" if self.met else f"missed by {short(abs(self.judged - self.goal))}{unit}"


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """What was not measured, and why."""

    name: str
    reason: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where figures were taken, and what else that machine was doing."""

    cpu: str
    cpus: int
    memory_gib: float
    kernel: str
    python: str
    scheduling: str
    """This process's class: "normal" or "idle", which gives way to everything else."""
    load: float
    """Load average of the last minute when the run began: processes that wanted a CPU."""


class Suite(msgspec.Struct, kw_only=True):
    """Figures of one subject, taken in one run."""

    name: str
    title: str
    command: str = ""
    date: str = ""
    commit: str = ""
    machine: Machine | None = None
    figures: list[Figure] = []
    skipped: list[Skipped] = []
    notes: list[str] = []

    def add(self, *figures: Figure) -> None:
        """Take these in, in place of those of the same names."""
        new = {figure.name for figure in figures}
        self.figures = [figure for figure in self.figures if figure.name not in new] + list(figures)

    def skip(self, name: str, reason: str) -> None:
        """Say what is not measured here, once."""
        one = Skipped(name=name, reason=reason)
        if one not in self.skipped:
            self.skipped.append(one)

    def note(self, text: str) -> None:
        """Something a reader of the table has to know, said once."""
        if text not in self.notes:
            self.notes.append(text)


def take_turns(ways: Mapping[str, Callable[[], T]], rounds: int, *, run: Callable[[Callable[[], None], int], object]) -> dict[str, list[T]]:
    """Each way once per round, in an order drawn anew (the same in each run); samples by way, one per round.

    A shared machine drifts by more than the ways differ, so only samples of one round are compared; and each way pays for the state in
    which the one before it left the caches, so none may always follow the same other. `run(work, rounds)` calls `work` that often:
    pytest-benchmark's `pedantic`, or a loop.
    """
    samples: dict[str, list[T]] = {name: [] for name in ways}
    names, chance = list(ways), random.Random(1)

    def one_round() -> None:
        chance.shuffle(names)
        for name in names:
            samples[name].append(ways[name]())

    run(one_round, rounds)
    return samples


def paired_ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    """Median over rounds of value / reference of the same round."""
    return statistics.median(value / other for value, other in zip(values, reference, strict=True))


def compare(
    name: str,
    values: Sequence[float],
    *,
    reference: str,
    reference_values: Sequence[float],
    unit: str,
    better: Literal["higher", "lower"] = "lower",
    goal: float | None = None,
    goal_of: Literal["ratio", "value"] = "ratio",
) -> Figure:
    """A figure of samples that took turns with those of the reference."""
    return Figure(
        name=name,
        value=statistics.median(values),
        unit=unit,
        reference=reference,
        reference_value=statistics.median(reference_values),
        ratio=paired_ratio(values, reference_values),
        better=better,
        goal=goal,
        goal_of=goal_of,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the sorted values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The k of cost ~ size^k by least squares on logarithms: 0 = independent of the size, 1 = proportional."""
    fit = statistics.linear_regression([math.log(size) for size in sizes], [math.log(cost) for cost in costs])
    return fit.slope


def short(value: float) -> str:
    """A number to three significant digits, large ones with separators."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(digits, 0)}f}" if digits <= 6 else f"{value:.2e}"
