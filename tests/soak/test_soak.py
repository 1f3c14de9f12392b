"""A minute of random operations and faults on three nodes, with a fixed seed: nothing may be violated. `make soak` runs longer ones."""

from __future__ import annotations

import pathlib

import pytest

from lab.soak.report import text
from lab.soak.soak import Settings, run

SECONDS, SEED = 60.0, 20_261


@pytest.mark.scenario
@pytest.mark.timeout(180)
def test_a_minute_of_faults_breaks_no_promise(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> None:
    result = run(Settings(seed=SEED, seconds=SECONDS, api=request.config.getoption("--api"), work_dir=tmp_path))
    print(text(result))
    assert not result.violations, text(result)
    assert result.two_answers_s == 0
    assert not result.left_over
    assert sum(result.done.values()) > SECONDS
    assert result.converged_s
