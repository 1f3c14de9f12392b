"""What the switch lets through, in one group or several, with a failure to withdraw, and without a switch."""

import pytest

from kvip.daemon.guard import Guard
from kvip.errors import SwitchError
from tests.unit.daemon.fake_ports import OTHER, THIRD, VIP
from tests.unit.daemon.guard_bench import Bench


@pytest.fixture
def bench():
    return Bench()


def test_k4_the_first_arm_of_a_life_is_a_first_arm_and_the_next_ones_are_not(bench):
    assert bench.guard.arm(1003.0) == ""
    assert bench.guard.arm(1004.0) == ""
    bench.guard.disarm()
    assert bench.guard.arm(1005.0) == ""
    assert bench.did() == ["arm_first", "rearm", "disarm", "arm_first"]


def test_what_is_let_through_answers_until_the_validity_ends(bench):
    bench.hold(VIP)
    assert bench.switch.answers(VIP)
    assert bench.guard.admitted(VIP)
    bench.clock.advance(3.0)
    assert not bench.switch.answers(VIP)


def test_what_is_silenced_is_known_but_does_not_answer_and_what_is_removed_is_not_known(bench):
    bench.hold(VIP, OTHER)
    bench.guard.silence({VIP: "eth0"})
    assert (bench.guard.admitted(VIP), bench.guard.guards(VIP), bench.switch.answers(VIP)) == (False, True, False)
    bench.guard.remove([VIP, THIRD])
    assert not bench.guard.guards(VIP)
    assert bench.switch.places == {OTHER: "main"}


@pytest.mark.parametrize("call", ["admit", "silence", "remove"])
def test_nothing_to_change_asks_the_kernel_nothing(bench, call):
    {"admit": lambda: bench.guard.admit({}), "silence": lambda: bench.guard.silence({}), "remove": lambda: bench.guard.remove([VIP])}[
        call
    ]()
    assert bench.log == []


def test_k6_the_others_are_written_when_they_change_and_again_after_a_failure(bench):
    bench.switch.fails = {"others"}
    bench.guard.others(frozenset({VIP}))
    bench.switch.fails = set()
    bench.guard.others(frozenset({VIP}))
    bench.guard.others(frozenset({VIP}))
    assert bench.did() == ["others"]
    assert not bench.switch.answers(VIP)


# -- failures and their names ------------------------------------------------------------------------------------------


def test_a_renewal_that_comes_too_late_for_the_switch_is_a_fence_and_the_next_arm_a_first_one(bench):
    bench.hold(VIP)
    bench.clock.advance(2.9)
    assert bench.guard.arm(1002.8) == "renewed too late for the switch"
    bench.log.clear()
    assert bench.guard.arm(1006.0) == ""
    assert bench.did() == ["arm_first"]


def test_k4_a_switch_that_ran_out_is_a_fence_not_a_retry(bench):
    bench.hold(VIP)
    bench.clock.advance(3.1)
    assert bench.guard.arm(1009.0) == "switched off by the kernel"
    assert bench.did() == []
    assert not bench.switch.answers(VIP)


def test_a_switch_that_refuses_to_be_armed_is_a_fence(bench):
    bench.hold(VIP)
    bench.switch.fails = {"rearm"}
    assert bench.guard.arm(1004.0) == "the switch cannot be armed"
    assert bench.guard.problem == ""


def test_what_the_switch_does_not_let_through_is_not_admitted(bench):
    bench.switch.fails = {"admit"}
    with pytest.raises(SwitchError):
        bench.guard.admit({VIP: "eth0"})
    assert not bench.guard.admitted(VIP)


def test_a_vip_on_a_nic_that_the_switch_cannot_cover_is_refused(bench):
    bench.switch.nics = set()
    with pytest.raises(SwitchError):
        bench.guard.admit({VIP: "eth0"})
    assert not bench.guard.admitted(VIP)
    assert bench.switch.places == {}


def test_a_nic_that_came_back_is_covered_by_putting_the_rules_back(bench):
    bench.hold(VIP)
    bench.switch.flush()
    bench.guard.admit({OTHER: "eth0"})
    assert bench.switch.answers(VIP)
    assert bench.switch.answers(OTHER)
    assert bench.did()[0] == "install"


@pytest.mark.parametrize("call", ["silence", "remove", "others", "disarm", "uninstall"])
def test_a_failure_to_withdraw_is_logged_and_nothing_counts_as_let_through(bench, call, caplog):
    bench.hold(VIP)
    bench.switch.fails = {call}
    withdraw = {
        "silence": lambda: bench.guard.silence({VIP: "eth0"}),
        "remove": lambda: bench.guard.remove([VIP]),
        "others": lambda: bench.guard.others(frozenset({VIP})),
        "disarm": bench.guard.disarm,
        "uninstall": bench.guard.uninstall,
    }
    withdraw[call]()
    assert [record.reason for record in caplog.records] == [f"{call} refused"]
    if call in ("silence", "remove"):
        assert not bench.guard.admitted(VIP)
        assert bench.guard.guards(VIP)


def test_a_removal_that_failed_can_be_made_again(bench):
    bench.hold(VIP)
    bench.switch.fails = {"remove"}
    bench.guard.remove([VIP])
    bench.switch.fails = set()
    bench.guard.remove([VIP])
    assert bench.switch.places == {}
    assert not bench.guard.guards(VIP)


def test_k8_without_a_switch_every_call_succeeds_and_it_is_called_weak():
    guard = Guard(None)
    guard.install(["eth0"], {})
    guard.admit({VIP: "eth0"})
    guard.silence({VIP: "eth0"})
    guard.remove([VIP])
    guard.others(frozenset({VIP}))
    guard.disarm()
    guard.uninstall()
    assert (guard.arm(1003.0), guard.check(), guard.problem) == ("", "", "")
    assert (guard.weak, guard.admitted(VIP), guard.covers("eth0"), guard.owns(7)) == (True, True, True, False)


def test_k8_without_a_switch_nothing_is_known_to_it():
    guard = Guard(None)
    guard.install(["eth0"], {VIP: "eth0"})
    guard.remove([VIP])
    assert not guard.guards(VIP)


def test_r2_what_a_fence_could_not_silence_is_silenced_before_the_next_life_is_armed(bench):
    bench.hold(VIP)
    bench.switch.fails = {"silence"}
    bench.guard.disarm()
    bench.guard.silence({VIP: "eth0"})
    assert bench.guard.arm(1005.0) == "the switch still lets VIPs through that are not this node's"
    assert not bench.switch.answers(VIP)
    bench.switch.fails = set()
    assert bench.guard.arm(1005.0) == ""
    assert not bench.switch.answers(VIP)


def test_r2_what_was_let_through_again_since_is_not_silenced(bench):
    bench.hold(VIP)
    bench.switch.fails = {"silence"}
    bench.guard.disarm()
    bench.guard.silence({VIP: "eth0"})
    bench.switch.fails = set()
    bench.hold(VIP, until=1005.0)
    assert bench.switch.answers(VIP)


# -- more than one lease group --------------------------------------------------------------------------------------------


def test_k1_a_group_that_is_disarmed_silences_its_own_and_leaves_the_others_alone(bench):
    bench.guard.admit({VIP: "eth0"}, "s0")
    bench.guard.admit({OTHER: "eth0"}, "s1")
    for group in ("s0", "s1"):
        assert bench.guard.arm(1003.0, group) == ""
    assert bench.guard.members("s0") == {VIP}
    bench.guard.disarm("s0")
    assert not bench.switch.answers(VIP)
    assert bench.switch.answers(OTHER)
    assert bench.guard.arm(1004.0, "s0") == ""
    assert bench.did()[-1] == "arm_first"


def test_k1_a_vip_that_moves_to_another_group_lives_as_long_as_that_one(bench):
    bench.guard.admit({VIP: "eth0"}, "s0")
    assert bench.guard.arm(1001.0, "s0") == bench.guard.arm(1003.0, "s1") == ""
    bench.guard.admit({VIP: "eth0"}, "s1")
    assert bench.guard.members("s0") == frozenset()
    bench.clock.advance(2.0)
    assert bench.switch.answers(VIP)
    bench.clock.advance(1.5)
    assert not bench.switch.answers(VIP)
