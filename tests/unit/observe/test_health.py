"""Alive and ready: verdicts with their reasons."""

import pytest

from kvip.clock import ManualClock
from kvip.daemon.supervision import Heartbeats
from kvip.observe.health import alive, ready


def test_a_loop_that_does_not_turn_is_named():
    clock = ManualClock()
    heartbeats = Heartbeats(clock)
    heartbeats.expect("reconcile", within_s=15)
    heartbeats.expect("lease-watch", within_s=150)
    heartbeats.beat("unexpected")
    clock.advance(16)
    assert alive(heartbeats.late()).reasons == ("reconcile loop has not turned for 16 s",)
    heartbeats.beat("reconcile")
    assert alive(heartbeats.late()).good
    clock.advance(151)
    assert [reason.split()[0] for reason in alive(heartbeats.late()).reasons] == ["lease-watch", "reconcile"]


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


def test_g5_a_node_that_may_take_nothing_says_so_and_is_ready():
    """A rolling restart that changes the mode waits for each node to become ready."""
    verdict = ready(started=True, synced={}, lease_observed=True, blocked="mode global holds")
    assert verdict.good
    assert verdict.reasons == ("mode global holds",)


def test_k8_without_the_switch_the_fencing_is_called_weak():
    verdict = ready(started=True, synced={}, lease_observed=True, weak=True)
    assert verdict.good
    assert "fencing: weak" in verdict.reasons[0]
