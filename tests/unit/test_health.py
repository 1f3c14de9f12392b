"""Alive and ready: verdicts with their reasons."""

import pytest

from kvip.observe.health import STUCK_AFTER_S, alive, ready


@pytest.mark.parametrize(
    ("ages", "stuck"),
    [
        ({}, []),
        ({"reconcile": 0.1, "election": 1.0}, []),
        ({"reconcile": STUCK_AFTER_S}, []),
        ({"reconcile": STUCK_AFTER_S + 1, "election": 1.0}, ["reconcile"]),
        ({"reconcile": 99.0, "announcer": 40.0}, ["announcer", "reconcile"]),
    ],
)
def test_a_loop_that_does_not_turn_is_named(ages, stuck):
    verdict = alive(ages, renew_deadline_s=3.0)
    assert verdict.good is (not stuck)
    assert [reason.split()[0] for reason in verdict.reasons] == stuck


def test_a_loop_may_wait_for_a_long_renew_deadline():
    assert alive({"election": 19.0}, renew_deadline_s=10.0).good
    assert not alive({"election": 20.5}, renew_deadline_s=10.0).good


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, []),
        ({"started": False}, ["starting"]),
        ({"synced": {"Service": False, "Node": True}}, ["Service"]),
        ({"synced": {"Service": False, "Node": False}}, ["Node", "Service"]),
        ({"lease_observed": False}, ["lease"]),
        ({"started": False, "synced": {"Service": False}, "lease_observed": False}, ["starting", "Service", "lease"]),
    ],
)
def test_readiness_names_everything_that_is_missing(fields, named):
    state = {"started": True, "synced": {"Service": True, "Node": True}, "lease_observed": True} | fields
    verdict = ready(**state)
    assert verdict.good is (not named)
    assert len(verdict.reasons) == len(named)
    for word, reason in zip(named, verdict.reasons, strict=True):
        assert word in reason
