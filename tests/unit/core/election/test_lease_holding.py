"""How long the shared Lease is held: each rule in a table."""

import pytest

from kvip.core.election.lease import (
    Lost,
    Renew,
    Take,
    Wait,
    confirmed,
    deadline_s,
    decide,
    fenced,
    observe,
)
from tests.unit.core.election.sharedlease import ME, PEER, TIMERS, holder, incarnation, lease, watcher


def test_validity_counts_from_the_sending_of_the_request():
    election = confirmed(observe(watcher(), None, now=100.0), lease(ME, 1), sent_at=100.0, now=102.5)
    assert election.valid_until == 103.0


@pytest.mark.parametrize("late_s", [3.0, 3.001, 60.0])
def test_a_first_answer_that_comes_too_late_wins_nothing(late_s):
    election = confirmed(observe(watcher(), None, now=100.0), lease(ME, 1), sent_at=100.0, now=100.0 + late_s)
    assert not election.holding
    assert decide(election, now=100.0 + late_s) == Renew(version="1", transitions=0)


@pytest.mark.parametrize(("now", "until"), [(102.9, 105.5), (103.0, 103.0), (104.0, 103.0)])
def test_a_renewal_counts_only_while_the_last_one_is_valid(now, until):
    election = confirmed(holder(), lease(ME, 2), sent_at=102.5, now=now)
    assert election.valid_until == until
    if now >= 103.0:
        assert decide(election, now=now, renewed_at=100.0) == Lost(reason="renew deadline")


def test_a_holder_renews_each_retry_period():
    assert decide(holder(), now=100.9, renewed_at=100.0) == Wait(until=101.0)
    assert decide(holder(), now=101.0, renewed_at=100.0) == Renew(version="1", transitions=0)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [(lease(PEER, 2), "lease taken by another"), (lease("", 2), "lease taken by another"), (None, "lease deleted")],
)
def test_a_holder_that_sees_another_state_has_lost(seen, reason):
    assert decide(observe(holder(), seen, now=100.5), now=100.5, renewed_at=100.0) == Lost(reason=reason)


def test_a_holder_has_lost_at_the_deadline_exactly():
    assert decide(holder(), now=102.999, renewed_at=100.0) == Renew(version="1", transitions=0)
    assert decide(holder(), now=103.0, renewed_at=100.0) == Lost(reason="renew deadline")


def test_after_a_fence_nothing_is_held_and_the_old_name_is_retired():
    second = incarnation("n1", 1)
    election = fenced(holder(), second)
    assert not election.holding
    assert election.incarnation == second
    assert decide(election, now=103.0) == Take(version="1", transitions=1)


@pytest.mark.parametrize(
    ("seen", "deadline"),
    [
        ([], 3.0),
        ([("x", 15)], 3.0),
        ([("x", 5)], 3.0),
        ([("x", 4)], 2.4),
        ([("x", 2), ("x", 15)], 1.2),
        ([("", 1)], 3.0),
        ([("x", 0)], 3.0),
    ],
)
def test_the_deadline_is_at_most_six_tenths_of_the_shortest_duration_seen_with_a_holder(seen, deadline):
    election = watcher()
    for version, (name, duration) in enumerate(seen, start=1):
        election = observe(election, lease(name, version, duration=duration), now=100.0)
    assert deadline_s(election) == pytest.approx(deadline)
    taken = confirmed(election, lease(ME, 99), sent_at=200.0, now=200.0)
    assert taken.valid_until == pytest.approx(200.0 + deadline)


def test_ones_own_duration_does_not_shorten_ones_own_deadline():
    mine = confirmed(watcher(), lease(ME, 1, duration=1), sent_at=100.0, now=100.0)
    assert deadline_s(mine) == TIMERS.renew_deadline_s
