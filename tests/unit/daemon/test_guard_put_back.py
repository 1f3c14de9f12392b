"""Rules of the switch that someone removed are put back silent first, then armed (PROTOCOL K7)."""

import pytest

from kvip import metrics
from kvip.errors import SwitchError
from tests.unit.daemon.fake_ports import OTHER, THIRD, VIP
from tests.unit.daemon.guard_bench import Bench


@pytest.fixture
def bench():
    return Bench()


def restored():
    return metrics.switch_restored_total._value.get()


def test_k7_rules_that_are_intact_are_left_alone(bench):
    bench.hold(VIP)
    assert bench.guard.check() == ""
    assert bench.log == []


def test_k7_flushed_rules_come_back_silent_first_then_armed_with_what_was_let_through(bench):
    bench.hold(VIP)
    bench.guard.silence({OTHER: "eth0"})
    bench.guard.others(frozenset({THIRD}))
    before = restored()
    bench.log.clear()
    bench.switch.flush()
    assert bench.guard.check() == ""
    assert bench.did() == ["install", "admit", "others", "arm_first"]
    assert [bench.switch.answers(vip) for vip in (VIP, OTHER, THIRD)] == [True, False, False]
    assert bench.switch.until == 1003.0
    assert restored() - before == 1


def test_k7_what_was_not_armed_is_not_armed_by_putting_it_back(bench):
    bench.hold(VIP)
    bench.guard.disarm()
    bench.switch.flush()
    bench.log.clear()
    assert bench.guard.check() == ""
    assert not bench.switch.answers(VIP)
    assert "arm_first" not in bench.did()


def test_k7_rules_put_back_after_the_validity_ended_stay_silent_and_fence(bench):
    bench.hold(VIP)
    bench.switch.flush()
    bench.clock.advance(3.5)
    assert bench.guard.check() == "renewed too late for the switch"
    assert not bench.switch.answers(VIP)


def test_k7_a_renewal_that_finds_the_rules_gone_puts_them_back_with_the_new_validity(bench):
    bench.hold(VIP)
    bench.switch.flush()
    assert bench.guard.arm(1004.0) == ""
    assert bench.switch.answers(VIP)
    assert bench.switch.until == 1004.0


def test_k7_rules_that_cannot_be_read_count_as_gone(bench):
    bench.hold(VIP)
    bench.switch.unreadable = True
    assert bench.guard.check() == ""
    assert bench.did()[0] == "install"


@pytest.mark.parametrize("call", ["install", "admit", "arm_first"])
def test_k7_a_failed_put_back_blocks_and_later_recovers_silent(bench, call, caplog):
    bench.hold(VIP)
    bench.switch.flush()
    bench.switch.fails = {call}
    assert bench.guard.check() == "the switch cannot be put back"
    bench.guard.check()
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert not bench.guard.admitted(VIP)
    bench.guard.disarm()
    bench.guard.remove([VIP])  # The fence that follows deletes the address.
    bench.switch.fails = set()
    assert bench.guard.check() == ""
    assert bench.guard.problem == ""
    assert bench.switch.there
    assert bench.guard.arm(1009.0) == ""
    assert "main" not in bench.switch.places.values()


def test_k7_a_failed_put_back_says_why_nothing_can_be_let_through(bench):
    bench.hold(VIP)
    bench.switch.flush()
    bench.switch.fails = {"install"}
    assert bench.guard.check() == "the switch cannot be put back"
    assert bench.guard.problem == "install refused"
    with pytest.raises(SwitchError):
        bench.guard.admit({OTHER: "eth0"})
    bench.switch.fails = set()
    bench.guard.admit({OTHER: "eth0"})
    assert bench.guard.problem == ""


def test_k7_every_group_comes_back_as_it_was_when_someone_removed_the_rules(bench):
    bench.guard.admit({VIP: "eth0"}, "s0")
    bench.guard.admit({OTHER: "eth0"}, "s1")
    assert bench.guard.arm(1003.0, "s0") == bench.guard.arm(1005.0, "s1") == ""
    bench.guard.disarm("s0")
    bench.switch.flush()
    assert bench.guard.check() == ""
    assert not bench.switch.answers(VIP)
    assert bench.switch.answers(OTHER)
    assert bench.switch.alive == {"s1": 1005.0}
