"""The soak's judges of what is said and left alone (I3, I6, I7)."""

from __future__ import annotations

import pytest

from lab.soak.checker import Violations
from lab.soak.claims import JUDGE_AFTER_S
from lab.soak.model import FOREIGN
from lab.soak.settle import differences, status_differences
from lab.soak.world import World
from tests.unit.lab.soak_stage import VIP, Stage, service


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_i6_an_unmarked_address_that_is_gone_or_marked_is_a_violation(stage: Stage) -> None:
    stage.kernel("n1", at_s=1.0)
    assert stage.found == []
    stage.kernel("n1", at_s=1.1, missing=FOREIGN[0])
    assert stage.found == ["I6"]
    stage.kernel("n2", FOREIGN[1], at_s=1.2)
    assert stage.found == ["I6", "I6", "I2"]


def test_i7_a_status_that_names_what_was_bound_is_right(stage: Stage) -> None:
    stage.create(1.0)
    stage.announces("n1", 1.1)
    stage.claims.services([service("u1", VIP)], at_s=1.2)
    stage.claims.judge(1.2 + JUDGE_AFTER_S)
    assert stage.claims.judged == 1
    assert stage.found == []


def test_i7_a_status_that_names_what_was_never_bound_or_asked_for_is_a_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.claims.services([service("u1", VIP)], at_s=1.2)
    stage.claims.judge(1.2 + JUDGE_AFTER_S)
    assert stage.found == ["I7"]
    stage.claims.services([service("other", VIP)], at_s=2.0)
    stage.claims.judge(2.0 + JUDGE_AFTER_S)
    assert stage.found == ["I7", "I7"]


def test_i7_what_was_bound_for_a_former_service_does_not_count_for_the_new_one(stage: Stage) -> None:
    stage.create(1.0)
    stage.kernel("n1", VIP, at_s=1.1)
    stage.delete(2.0)
    stage.create(3.0, uid="u2")
    stage.claims.services([service("u2", VIP)], at_s=3.1)
    stage.claims.judge(3.1 + JUDGE_AFTER_S)
    assert stage.found == ["I7"]


def test_i7_what_may_have_been_bound_between_two_looks_is_no_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.kernel("n1", VIP, at_s=1.1)
    stage.delete(1.12)
    stage.create(1.14, uid="u2")
    stage.kernel("n1", at_s=1.2)
    stage.claims.services([service("u2", VIP)], at_s=1.3)
    stage.claims.judge(1.3 + JUDGE_AFTER_S)
    assert stage.found == []
    stage.create(2.0, uid="u3")
    stage.claims.services([service("u3", VIP)], at_s=2.1)
    stage.claims.judge(2.1 + JUDGE_AFTER_S)
    assert stage.found == ["I7"]


def test_i7_an_event_is_held_to_the_node_that_it_names(stage: Stage) -> None:
    stage.create(1.0)
    stage.kernel("n1", VIP, at_s=1.1)
    events = [
        {
            "metadata": {"uid": node}, "reason": "VIPBound", "involvedObject": {"name": "s00", "uid": "u1"},
            "message": f"{VIP} is bound and announced on {node} (eth0)",
        }
        for node in ("n1", "n2")
    ]  # fmt: skip
    stage.claims.events(events[:1], at_s=1.2)
    stage.claims.judge(2.0)
    assert stage.found == []
    stage.claims.events(events, at_s=2.2)
    stage.claims.judge(3.0)
    assert stage.found == ["I7"]


def test_i3_bound_nowhere_twice_without_an_owner_or_silent_is_a_difference() -> None:
    living = {VIP: {"s00"}}

    def differs(bound: dict[str, frozenset[str]], holder: str = "n1", *, now_s: float = 1.0) -> bool:
        return bool(differences(living=living, bound=bound, holders={VIP: (holder, 1.0)}, now_s=now_s))

    assert not differs({"n1": frozenset({VIP}), "n2": frozenset()})
    assert differs({"n1": frozenset(), "n2": frozenset()})
    assert differs({"n1": frozenset({VIP}), "n2": frozenset({VIP})})
    assert differs({"n1": frozenset({VIP, "10.10.0.201"})})
    assert differs({"n1": frozenset({VIP})}, "n2")
    assert differs({"n1": frozenset({VIP})}, now_s=2.0)


def test_i7_a_status_that_lacks_an_address_or_keeps_one_is_a_difference() -> None:
    assert status_differences([service("u", VIP)]) == []
    assert len(status_differences([service("u")])) == 1
    assert len(status_differences([service("u", VIP, asks="10.10.0.201")])) == 2


def test_the_same_violation_of_many_vips_is_told_once() -> None:
    violations = Violations(World(0.0), lambda: ["context"])
    for number in range(3):
        violations.add("I1", f"10.10.0.{number} was answered by two nodes at once", at_s=1.0, vip=f"10.10.0.{number}")
    violations.add("I1", "10.10.0.0 was answered by two nodes at once", at_s=20.0, vip="10.10.0.0")
    assert [(violation.count, violation.vips) for violation in violations.found] == [
        (3, ["10.10.0.0", "10.10.0.1", "10.10.0.2"]), (1, ["10.10.0.0"]),
    ]  # fmt: skip
