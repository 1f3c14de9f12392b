"""The soak's plan: pure, repeatable, and never nonsense."""

from __future__ import annotations

import itertools

import pytest

from lab.soak.model import API_WIDE, DAEMON_OFF, EMBEDDED_ONLY, ENDING, FAULT_KINDS, LASTING_NODE, SERVICE_KINDS, VIPS, Operation, Round
from lab.soak.plan import HEAL_S, SINGLE_REST_S, SINGLES, make_plan

SEEDS = range(12)


def _faults(rnd: Round) -> list[Operation]:
    return [operation for operation in rnd.operations if operation.kind in FAULT_KINDS]


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert make_plan(7, 300, embedded=True) == make_plan(7, 300, embedded=True)
    assert make_plan(7, 300, embedded=True) != make_plan(8, 300, embedded=True)


def test_it_lasts_as_long_as_asked_in_rounds_of_about_a_minute() -> None:
    plan = make_plan(1, 300, embedded=True)
    assert len(plan) == 5
    assert sum(rnd.lasts_s + HEAL_S for rnd in plan) == pytest.approx(300)
    assert all(0 <= operation.at_s < rnd.lasts_s for rnd in plan for operation in rnd.operations)


def test_operations_are_in_order_and_two_to_four_a_second() -> None:
    for seed in SEEDS:
        for rnd in make_plan(seed, 180, embedded=True):
            times = [operation.at_s for operation in rnd.operations]
            assert times == sorted(times)
            assert 2 <= len(times) / rnd.lasts_s <= 4


def test_every_kind_of_operation_and_fault_comes_up_within_ten_minutes() -> None:
    plan = make_plan(1, 600, embedded=True)
    assert {operation.kind for rnd in plan for operation in rnd.operations} == {*FAULT_KINDS, *SERVICE_KINDS}


def test_the_real_api_server_is_not_asked_for_what_it_cannot_do() -> None:
    plan = make_plan(1, 600, embedded=False)
    assert not {operation.kind for rnd in plan for operation in rnd.operations} & EMBEDDED_ONLY


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_part_of_a_round_has_one_fault_at_a_time(seed: int) -> None:
    for rnd in make_plan(seed, 180, embedded=True):
        singles = [fault for fault in _faults(rnd) if fault.at_s < 2 + (rnd.lasts_s - 2) * SINGLES]
        assert singles
        for former, fault in itertools.pairwise(singles):
            assert fault.at_s >= former.at_s + former.lasts_s + SINGLE_REST_S - 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lasting_daemon_is_never_ended_and_faults_hit_what_they_can(seed: int) -> None:
    for rnd in make_plan(seed, 180, embedded=True):
        for fault in _faults(rnd):
            assert not (fault.node == LASTING_NODE and fault.kind in ENDING)
            assert (fault.node == "") == (fault.kind in API_WIDE or fault.kind == "addr_del")
            assert set(fault.vips) <= set(VIPS)


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_are_never_flushed_where_the_daemon_is_off_or_about_to_be(seed: int) -> None:
    for rnd in make_plan(seed, 180, embedded=True):
        faults = [fault for fault in _faults(rnd) if not fault.busiest]
        for flush in (fault for fault in faults if fault.kind == "flush"):
            for off in (fault for fault in faults if fault.kind in DAEMON_OFF and fault.node == flush.node):
                assert not off.at_s - 1.5 < flush.at_s < off.at_s + off.lasts_s


@pytest.mark.parametrize("seed", SEEDS)
def test_services_are_created_before_they_are_changed_and_never_twice(seed: int) -> None:
    exists: set[str] = set()
    for rnd in make_plan(seed, 180, embedded=True):
        for operation in rnd.operations:
            if operation.kind == "create":
                assert operation.service not in exists
                exists.add(operation.service)
            elif operation.kind in SERVICE_KINDS:
                assert operation.service in exists
                exists -= {operation.service} if operation.kind == "delete" else set()
