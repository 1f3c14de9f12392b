"""Every row of the fault table, judged by a client that asks who has the VIP: never two answers, silence within the bound, nothing left."""

from __future__ import annotations

import pytest

from lab.cluster import CLAIMS, GLOBAL, PER_SERVICE, Cluster
from lab.embeddedapi import EmbeddedApi
from lab.faults import TABLE
from lab.scene import Fault, run

MODES = (CLAIMS, GLOBAL, PER_SERVICE)


@pytest.mark.parametrize("fault", [pytest.param(fault, marks=[pytest.mark.slow] * fault.slow, id=fault.name) for fault in TABLE])
def test_fault(cluster: Cluster, mode: str, fault: Fault) -> None:
    if fault.embedded and not isinstance(cluster.api, EmbeddedApi):
        pytest.skip("only the embedded API server fails on request")
    measured = run(fault, cluster)
    timings = ", ".join(f"{timing.what} {timing.took_s:.2f} (bound {timing.bound_s:g})" for timing in measured.timings)
    print(
        f"{mode}: {fault.name}: two answers {measured.two_answers_s:.2f} s, longest silence {measured.longest_silence_s:.2f} s; {timings}"
    )
    assert measured.two_answers_s == 0
    assert measured.left == ()
    if fault.silence_s is not None:
        assert measured.longest_silence_s <= fault.silence_s
    for timing in measured.timings:
        assert timing.took_s <= timing.bound_s, timing
