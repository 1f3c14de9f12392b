"""When the shared Lease may be taken: each rule in a table."""

import pytest

from kvip.core.election.lease import (
    PER_SERVICE,
    RELEASED_ANNOTATION,
    SUCCESSION_ANNOTATION,
    Renew,
    Take,
    Wait,
    decide,
    free_at,
    is_older,
    is_per_service,
    observe,
    succession,
)
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta
from tests.unit.core.election.sharedlease import ME, PEER, lease, watcher


def test_nothing_is_decided_before_the_lease_was_read():
    assert decide(watcher(), now=100.0) == Wait(until=101.0)


def test_a_lease_that_was_never_there_is_created_at_once():
    assert decide(observe(watcher(), None, now=100.0), now=100.0) == Take(version="", transitions=0)


@pytest.mark.parametrize(
    ("found", "wait_s"),
    [
        (lease(PEER, 5), 5.0),
        (lease(PEER, 5, duration=15), 15.0),
        (lease(PEER, 5, duration=2), 5.0),
        (lease("client-go-host", 5), 10.0),
        (lease("client-go-host", 5, duration=15), 30.0),
        (lease("host_1234", 5), 10.0),
        (lease("", 5, transitions=3, released=f"{PEER}/3"), 0.0),
        (lease("", 5, duration=1, transitions=3), 2.0),
        (lease("", 5, transitions=4, released=f"{PEER}/3"), 2.0),
        (lease("", 5, transitions=3, released=f"{PEER}/13"), 2.0),
        (lease(None, 5), 2.0),
    ],
    ids=[
        "kvip", "longer", "never below one's own", "foreign", "foreign, longer", "nearly an incarnation", "released by kvip",
        "released by another", "kvip's release is an older one", "transitions are compared whole", "no holder field",
    ],
)  # fmt: skip
def test_how_long_a_lease_must_stand_still(found, wait_s):
    election = observe(watcher(), found, now=100.0)
    assert free_at(election) == 100.0 + wait_s
    if wait_s:
        assert decide(election, now=100.0 + wait_s - 0.001) == Wait(until=100.0 + wait_s)
    transitions = (found.spec.lease_transitions or 0) + 1
    assert decide(election, now=100.0 + wait_s) == Take(version="5", transitions=transitions)


def test_each_change_starts_the_wait_anew_and_an_unchanged_read_does_not():
    election = observe(watcher(), lease(PEER, 5), now=100.0)
    election = observe(election, lease(PEER, 5), now=103.0)
    assert free_at(election) == 105.0
    assert election.view.seen_at == 103.0
    election = observe(election, lease(PEER, 6), now=104.0)
    assert free_at(election) == 109.0


@pytest.mark.parametrize(("gone", "wait_s"), [(lease(PEER, 5), 5.0), (lease(PEER, 5, duration=15), 15.0)])
def test_a_lease_that_vanished_is_not_free_before_its_duration_passed(gone, wait_s):
    election = observe(observe(watcher(), gone, now=100.0), None, now=101.0)
    election = observe(election, None, now=102.0)
    assert decide(election, now=101.0 + wait_s - 0.01) == Wait(until=101.0 + wait_s)
    assert decide(election, now=101.0 + wait_s) == Take(version="", transitions=0)


def test_a_vanished_lease_of_a_foreign_holder_is_free_after_twice_its_duration():
    election = observe(observe(watcher(), lease("client-go-host", 5, duration=15), now=100.0), None, now=101.0)
    assert free_at(election) == 131.0


def test_a_lease_deleted_and_created_again_counts_from_its_creation():
    election = observe(observe(watcher(), lease(PEER, 5), now=100.0), None, now=101.0)
    assert free_at(observe(election, lease(PEER, 9), now=103.0)) == 108.0


def test_an_older_version_is_ignored():
    election = observe(watcher(), lease(PEER, 10), now=100.0)
    assert observe(election, lease("", 9, released=f"{PEER}/0"), now=101.0) == election


@pytest.mark.parametrize(
    ("version", "than", "older"), [("9", "10", True), ("10", "9", False), ("10", "10", False), ("", "1", False), ("x", "1", False)]
)
def test_versions_are_compared_as_numbers(version, than, older):
    assert is_older(version, than) is older


def test_what_a_retired_incarnation_holds_is_free_at_once():
    election = watcher(retired=frozenset({str(PEER)}))
    assert decide(observe(election, lease(PEER, 5, transitions=2), now=100.0), now=100.0) == Take(version="5", transitions=3)


def test_ones_own_unconfirmed_lease_is_renewed_not_taken():
    assert decide(observe(watcher(), lease(ME, 5, transitions=2), now=100.0), now=100.0) == Renew(version="5", transitions=2)


def test_t4_a_lease_blanked_under_a_kvip_holder_is_not_free_before_its_duration():
    seen = observe(watcher(), lease(PEER, 5), now=100.0)
    blanked = observe(seen, lease("", 6), now=101.0)
    assert free_at(blanked) == 106.0


def test_t4_a_lease_deleted_and_created_anew_without_a_holder_is_not_free_before_its_duration():
    gone = observe(observe(watcher(), lease(PEER, 5), now=100.0), None, now=101.0)
    assert free_at(observe(gone, lease("", 9), now=101.5)) == 106.0


def test_an_answer_older_than_what_the_watch_brought_meanwhile_is_no_rewritten_history():
    seen = observe(watcher(), lease(PEER, 11), now=100.0)
    assert observe(seen, lease(PEER, 10), now=100.1, asked_at_version="9") == seen
    rewritten = observe(seen, lease(PEER, 3), now=100.1, asked_at_version="9")
    assert rewritten.not_before > 105.0


def marked(holder, *, released=""):
    notes = {SUCCESSION_ANNOTATION: f"{PER_SERVICE}0"} | ({RELEASED_ANNOTATION: released} if released else {})
    spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=5, lease_transitions=3)
    return Lease(metadata=ObjectMeta(name="svcs", resource_version="5", annotations=notes), spec=spec)


@pytest.mark.parametrize("found", [marked(PEER), marked("", released=f"{PEER}/3")], ids=["held", "released"])
def test_g5_the_shared_lease_of_such_a_mode_is_free_for_others_only_when_nobody_of_it_took_it(found):
    assert free_at(observe(watcher(), found, now=100.0)) == 110.0
    assert free_at(observe(watcher(mark=f"{PER_SERVICE}0"), found, now=100.0)) == (105.0 if found.spec.holder_identity else 100.0)


def test_g5_who_follows_such_a_mode_asks_for_every_vip():
    view = observe(watcher(), marked("", released=f"{PEER}/3"), now=100.0).view
    assert is_per_service(view)
    inherited = succession(view)
    assert inherited
    assert not inherited.startswith(PER_SERVICE), "what is inherited does not make a mode"
    foreign = observe(watcher(), marked("kube"), now=100.0).view
    assert not is_per_service(foreign)
    assert succession(foreign) == "kube/3"
