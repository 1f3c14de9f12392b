"""The control side without a kernel or an API server: decoding, indexing, one change, a resync, at four sizes with the fitted exponent.

The rooms are the daemon's own, over the fake ports of the unit tests. What one event triggers must not grow with the number of VIPs:
its exponent is to be near 0; that of work on all of them near 1.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import objects
from benchmarks.figures import Figure, Suite, compare, exponent, take_turns
from benchmarks.fullhouse import Full
from kvip.core.objects import EndpointSlice, Service
from kvip.kube.decode import ObjectDecoder

SIZES = (100, 1_000, 3_000, 10_000)
FLAT, LINEAR = 0.15, 1.1
"""Bounds of the exponent: of what one event triggers, of work on all."""
DECODE_SIZE = 10_000
DECODE_GOAL = 1.0


@pytest.fixture(scope="module")
def suite(suites: Callable[[str, str], Suite]) -> Suite:
    found = suites("control", "decoding, indexing, one change and a resync, by the number of Services")
    found.note(
        f"An exponent k means cost ~ size^k, fitted over {', '.join(f'{size:,}' for size in SIZES)}; its bound is {FLAT} for what one "
        f"event triggers, {LINEAR} for work on all. Costs of single sizes stand beside those of {SIZES[0]}."
    )
    return found


@pytest.mark.parametrize("kind", ["service", "slice"])
def test_decoding(benchmark: BenchmarkFixture, suite: Suite, kind: str) -> None:
    body = objects.list_body(kind, DECODE_SIZE)
    decoder: ObjectDecoder[Service] | ObjectDecoder[EndpointSlice] = (
        ObjectDecoder(Service) if kind == "service" else ObjectDecoder(EndpointSlice)
    )

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def way() -> float:
            gc.collect()
            began = time.perf_counter()
            kept = work()
            took_s = time.perf_counter() - began
            assert kept
            return took_s * 1e3

        return way

    ways = {
        "kvip": timed(lambda: decoder.page(body).items),
        "json.loads": timed(lambda: json.loads(body)),
        "msgspec, every field": timed(lambda: msgspec.json.decode(body)),
    }
    samples = take_turns(ways, 5, run=lambda work, count: benchmark.pedantic(work, rounds=count))  # type: ignore[no-untyped-call]
    what = f"decode {DECODE_SIZE:,} {'Services' if kind == 'service' else 'EndpointSlices'}"
    for reference in ("json.loads", "msgspec, every field"):
        goal = DECODE_GOAL if reference == "json.loads" else None
        name = what if goal else f"{what} (again)"
        figure = compare(name, samples["kvip"], reference=reference, reference_values=samples[reference], unit="ms", goal=goal)
        suite.add(figure)


ALL = ("index all EndpointSlices", "index all Services", "resync of everything")


@pytest.mark.timeout(300)
def test_what_an_event_costs_by_the_number_of_services(benchmark: BenchmarkFixture, suite: Suite) -> None:
    found: dict[int, dict[str, float]] = {}

    def measure() -> None:
        for size in SIZES:
            gc.collect()
            found[size] = Full(size).measure()

    benchmark.pedantic(measure, rounds=1)  # type: ignore[no-untyped-call]
    for name in found[SIZES[0]]:
        costs = [found[size][name] for size in SIZES]
        k, bound = exponent(SIZES, costs), LINEAR if name in ALL else FLAT
        suite.add(
            Figure(name=f"{name}, exponent", value=k, unit="", reference="proportional", reference_value=1.0, ratio=k, goal=bound),
            *(
                Figure(
                    name=f"{name}, {size:,}",
                    value=cost,
                    unit="ms",
                    reference=f"at {SIZES[0]}",
                    reference_value=costs[0],
                    ratio=cost / costs[0],
                )
                for size, cost in zip(SIZES[1:], costs[1:], strict=True)
            ),
        )
        benchmark.extra_info[name] = round(k, 3)
