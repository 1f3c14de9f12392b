"""The soak's judges of who answers for a VIP (I1, I2, I4, I5): each promise broken is seen, what is allowed is not."""

from __future__ import annotations

import pytest

from tests.unit.lab.soak_stage import CLIENT_MAC, VIP, Stage, frame


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_i1_seconds_with_two_answers_are_a_violation(stage: Stage) -> None:
    stage.checker.two_answers(VIP, 0.0, now_s=1.0)
    assert stage.found == []
    stage.checker.two_answers(VIP, 0.03, now_s=1.1)
    assert stage.found == ["I1"]


@pytest.mark.parametrize("kind", ["kill", "freeze", "cut"])
def test_i1_a_node_that_answers_past_the_renew_deadline_is_seen_even_alone(stage: Stage, kind: str) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 5.0)
    stage.fault(kind, 5.0)
    stage.answers("n1", 5.0, 8.4)
    assert stage.found == []
    stage.answers("n1", 8.51, 8.6)
    assert stage.found == ["I1"]


def test_i1_a_node_may_answer_again_once_its_fault_is_over(stage: Stage) -> None:
    stage.create(1.0)
    stage.fault("freeze", 2.0, 9.0)
    stage.answers("n2", 1.0, 12.0)
    stage.answers("n1", 12.0, 12.3)
    assert stage.found == []


# -- I2 --------------------------------------------------------------------------------------------------------------------


def test_i2_an_answer_a_second_after_the_delete_is_a_violation_and_before_it_is_not(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 5.9)
    stage.delete(5.0)
    assert stage.found == []
    stage.answers("n1", 6.01, 6.05)
    assert stage.found == ["I2"]
    assert stage.checker.left_over == {("n1", VIP)}


@pytest.mark.parametrize("kind", ["kill", "freeze", "cut"])
def test_i2_where_the_daemon_cannot_hear_the_kernel_must_be_silent_at_the_renew_deadline(stage: Stage, kind: str) -> None:
    stage.create(1.0)
    stage.fault(kind, 4.9)
    stage.delete(5.0)
    assert stage.world.silent_by(5.0, "n1") == pytest.approx(4.9 + 3.0 + 0.5)
    assert stage.world.silent_by(5.0, "n2") == pytest.approx(6.0)


def test_i2_a_resync_has_ten_seconds_after_the_watch_is_whole_again(stage: Stage) -> None:
    stage.create(1.0)
    swallow = stage.fault("swallow", 4.0)
    stage.delete(5.0)
    assert stage.world.silent_by(5.0, "n1") == float("inf")
    swallow.ended_s = 7.0
    assert stage.world.silent_by(5.0, "n1") == pytest.approx(17.0)
    stage.kernel("n1", VIP, at_s=16.9)
    assert stage.found == []
    stage.kernel("n1", VIP, at_s=17.1)
    assert stage.found == ["I2"]


def test_i2_bound_on_a_dead_node_is_allowed_until_its_restart_or_the_end_of_the_lifetime(stage: Stage) -> None:
    stage.create(1.0)
    kill = stage.fault("kill", 4.0)
    stage.delete(5.0)
    stage.kernel("n1", VIP, at_s=69.9)
    assert stage.found == []
    stage.kernel("n1", VIP, at_s=70.1)
    assert stage.found == ["I2"]
    kill.ended_s = 20.0
    assert stage.world.unbound_by(5.0, "n1") == pytest.approx(23.0)


@pytest.mark.parametrize("restarted_s", [9.5, 10.5])
def test_i2_a_daemon_that_starts_without_the_api_server_keeps_nothing(stage, restarted_s: float) -> None:
    stage.fault("kill", 3.0, restarted_s)
    cut = stage.fault("cut", 10.0)
    assert stage.world.unbound_by(9.8, "n1") == pytest.approx(13.5)
    cut.ending_s = cut.ended_s = 20.0
    assert stage.world.unbound_by(9.8, "n1") == pytest.approx(30.0)


def test_i2_a_shared_address_is_no_orphan_while_one_service_asks_for_it(stage: Stage) -> None:
    stage.create(1.0)
    stage.create(2.0, "s01", uid="u2")
    stage.delete(3.0)
    stage.answers("n1", 1.0, 6.0)
    assert stage.found == []
    stage.delete(6.0, "s01")
    stage.answers("n1", 7.1, 7.2)
    assert stage.found == ["I2"]


def test_nothing_is_held_against_anybody_while_a_write_is_not_confirmed(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 2.0)
    stage.world.changing("s00", ())
    stage.answers("n1", 2.0, 5.0)
    stage.answers("", 5.0, 9.0)
    assert stage.found == []


# -- I4 --------------------------------------------------------------------------------------------------------------------


def test_i4_an_announcement_while_another_node_goes_on_answering_is_a_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n2", 1.0, 5.0)
    stage.announces("n1", 5.0)
    assert stage.found == []
    stage.answers("n2", 5.01, 5.1)
    assert stage.found == ["I4"]


def test_i4_an_announcement_of_the_one_that_takes_over_is_not(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n2", 1.0, 5.0)
    stage.announces("n1", 5.0)
    stage.answers("n1", 5.01, 5.1)
    assert stage.found == []


@pytest.mark.parametrize("kind", ["kill", "freeze"])
def test_i4_a_frame_of_a_daemon_that_cannot_run_is_a_violation_at_once(stage: Stage, kind: str) -> None:
    stage.create(1.0)
    stage.fault(kind, 5.0)
    stage.announces("n1", 5.02)
    assert stage.found == []
    stage.announces("n1", 5.2)
    assert stage.found == ["I4"]


def test_i4_a_frame_right_after_the_daemon_woke_within_its_lease_is_not(stage: Stage) -> None:
    stage.create(1.0)
    stage.fault("freeze", 5.0, 6.8)
    stage.announces("n1", 6.802)
    assert stage.found == []


def test_i4_a_frame_of_a_node_cut_off_beyond_the_renew_deadline_is_a_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.fault("cut", 5.0)
    stage.announces("n1", 8.4)
    assert stage.found == []
    stage.announces("n1", 8.6)
    assert stage.found == ["I4"]


# -- I5, silence -----------------------------------------------------------------------------------------------------------


def test_i5_half_a_second_of_silence_without_a_fault_is_a_violation(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 10.0)
    stage.answers("", 10.0, 10.4)
    stage.answers("n1", 10.4, 11.0)
    assert stage.found == []
    stage.answers("", 11.0, 11.7)
    assert stage.found == ["I5"]


@pytest.mark.parametrize(
    ("kind", "allowed_s"), [("kill", 6.0), ("freeze", 6.0), ("cut", 6.0), ("term", 0.5), ("flush", 1.0), ("swallow", 0.5)]
)
def test_i5_under_one_fault_its_own_bound_holds(stage: Stage, kind: str, allowed_s: float) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 10.0)
    stage.fault(kind, 10.0, 10.0 + allowed_s)
    stage.answers("", 10.0, 10.0 + allowed_s - 0.1)
    assert stage.found == []
    stage.answers("", 10.0 + allowed_s - 0.1, 10.2 + allowed_s)
    assert stage.found == ["I5"]
    stage.answers("n2", 10.2 + allowed_s, 11.0 + allowed_s)
    assert stage.found == ["I5"]
    row = stage.checker.silence.rows[kind]
    assert row.bound_s == allowed_s
    assert row.longest_s == pytest.approx(allowed_s + 0.2, abs=0.1)


def test_overlapping_faults_are_reported_and_not_judged(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 10.0)
    stage.fault("kill", 10.0)
    stage.fault("freeze", 10.0, 29.0, node="n2")
    stage.answers("", 10.0, 30.0)
    stage.answers("n2", 30.0, 30.1)
    assert stage.found == []
    assert stage.checker.silence.rows["overlapping"].longest_s == pytest.approx(20.0, abs=0.1)


def test_a_fault_far_away_in_time_excuses_nothing(stage: Stage) -> None:
    stage.create(1.0)
    stage.fault("nic_down", 2.0, 3.0)
    stage.answers("n1", 1.0, 20.0)
    stage.answers("", 20.0, 20.7)
    assert stage.found == ["I5"]


def test_silence_is_not_concluded_from_questions_that_were_not_asked(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("n1", 1.0, 10.0)
    stage.checker.frames([frame(10.01, CLIENT_MAC, outgoing=True)])
    stage.answers("n1", 13.0, 13.5)
    assert stage.found == []


def test_a_new_vip_has_a_second_to_answer(stage: Stage) -> None:
    stage.create(1.0)
    stage.answers("", 1.0, 1.9)
    assert stage.found == []
    stage.answers("", 1.9, 2.2)
    assert stage.found == ["I5"]
