"""What many Leases of one daemon have in common: whether the API answers, told once, and suspends, told to each."""

import logging

from kvip.clock import ManualClock
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.validity import Footing, Reach
from kvip.errors import ApiError


def error(status):
    return ApiError("PUT", "lease", status=status, reason="X")


def test_an_outage_is_said_once_for_all_leases_and_heard_of_at_the_first_answer(caplog):
    heard = []
    reach = Reach(heard.append)
    with caplog.at_level(logging.INFO):
        for lease in ("a", "b", "c"):
            reach.outcome(error(0), lease=lease)
            reach.outcome(TimeoutError(), lease=lease)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        reach.outcome(error(409), lease="b")
        reach.outcome(None, lease="c")
    assert heard == [True]


def test_a_refusal_concerns_one_lease_is_said_once_until_it_ends_and_its_end_is_heard_of(caplog):
    heard = []
    reach = Reach(heard.append)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            reach.outcome(error(403), lease="a")
            reach.outcome(None, lease="b")
        assert ([record.lease for record in caplog.records], heard) == (["a"], [])
        reach.outcome(None, lease="a")
        assert heard == [False]
        reach.outcome(error(403), lease="a")
        assert len(caplog.records) == 2


def test_r4_every_lease_can_tell_that_the_machine_was_suspended_since_it_looked():
    clock = ManualClock()
    footing = Footing(clock, Heartbeats(clock))
    before = footing.slept()
    clock.advance(5)
    assert footing.slept() == before
    clock.suspend(1)
    assert footing.slept() == footing.slept() == before + 1
