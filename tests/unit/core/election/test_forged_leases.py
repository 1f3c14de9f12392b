"""Leases that somebody else wrote: whatever stands in them, a node reads them, decides, and never falls over."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvip.core.election import claims, heartbeat, lease, records, seal
from kvip.core.election.lease import Timers
from kvip.core.model import Incarnation
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta

TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)
MINE = Incarnation("n1_" + "0" * 32)
HUGE = "9" * 5000
DEEP = "[" * 100_000 + "]" * 100_000
KEYS = sorted(heartbeat.OWN_ANNOTATIONS | records.OWN_ANNOTATIONS | {lease.RELEASED_ANNOTATION, lease.SUCCESSION_ANNOTATION})
TEXTS = st.text(max_size=30) | st.sampled_from(
    ["", "{}", "[]", "null", "0", "64", "-1", "²", "٣", "1e9", HUGE, DEEP, f'[{{"x":{DEEP}}}]', f'{{"a":{DEEP}}}', '{"n2_1":["192.0.2.7"]}']
    + [f"n2_1 {number} {base} - 0" for number in ("1", "²", HUGE) for base in ("7", "²", HUGE, "-")]
    + ['{"n1_1":["192.0.2.7"],"n2_1":["192.0.2.7"]}', '[{"name":"eth0","mac":"x"}]', '"\\ud800"', "[1,2]"]
)
VERSIONS = st.sampled_from(["", "1", "7", "²", HUGE, "x", "-3"])
SECONDS = st.none() | st.sampled_from([0, 1, 5, -5, 2**31 - 1, -(2**31)]) | st.integers(-(2**63), 2**63)
NAMES = st.sampled_from(
    [
        "kvip-node-n1",
        "kvip-node-n2",
        "kvip-node-",
        "kvip-claims-0",
        "kvip-claims-²",
        f"kvip-claims-{'9' * 240}",
        "kvip-claims-63",
        "kvip-cluster",
    ]
)
LEASES = st.builds(
    lambda name, version, notes, labels, holder, seconds, transitions: Lease(
        metadata=ObjectMeta(name=name, namespace="kube-system", uid="u", resource_version=version, annotations=notes, labels=labels),
        spec=LeaseSpec(holder_identity=holder, lease_duration_seconds=seconds, lease_transitions=transitions),
    ),
    NAMES,
    VERSIONS,
    st.none() | st.dictionaries(st.sampled_from(KEYS), TEXTS, max_size=5),
    st.none() | st.just(dict(heartbeat.LABELS)),
    st.none() | st.sampled_from(["", "n1", "n2_1", MINE, "_", "n2_" + "f" * 32]),
    SECONDS,
    SECONDS,
)


@settings(deadline=None)
@given(found=LEASES)
@example(Lease(metadata=ObjectMeta(name="kvip-node-n2", annotations={heartbeat.NICS: f'[{{"x":{DEEP}}}]'})))
@example(Lease(metadata=ObjectMeta(name="kvip-node-n2", annotations={heartbeat.WRITTEN: f"n2_1 {HUGE} - - 0"})))
@example(Lease(metadata=ObjectMeta(name="kvip-cluster", annotations={records.COUNT: HUGE})))
@example(Lease(metadata=ObjectMeta(name="kvip-claims-²")))
def test_a_lease_is_read_whatever_stands_in_it(found):
    beat = heartbeat.parse(found)
    record = records.parse(found)
    assert not beat.intact
    assert not record.intact
    assert records.number_in(found.metadata.name) in (None, 0, 63)
    assert records.count_in(found) in (None, 64)


@settings(deadline=None)
@given(mark=TEXTS, version=VERSIONS)
def test_a_mark_is_read_whatever_it_is(mark, version):
    assert seal.sequence_of(mark) >= 0
    seal.follows(mark, known_version=version)
    seal.created(mark)
    assert not seal.unbroken(mark, uid="u", content="anything")


@settings(deadline=None)
@given(versions=st.lists(VERSIONS, min_size=2, max_size=2))
def test_versions_are_compared_whatever_they_are(versions):
    lease.is_older(*versions)


def taking_part():
    """A node that holds a heartbeat, by four records."""
    return claims.start("n1", MINE, TIMERS, count=4, shared_name="plndr-svcs-lock")


@settings(deadline=None)
@given(story=st.lists(st.tuples(LEASES | st.none(), NAMES), min_size=1, max_size=8))
def test_a_node_decides_on_whatever_it_is_shown(story):
    state, now = taking_part(), 1000.0
    for number, (found, name) in enumerate(story):
        state = claims.watched(state, found.metadata.name if found is not None else name, found, now=now)
        step = claims.step(state, now)
        state, now = step.state, now + 0.3 * number
        assert len(step.ops) < 100
        if step.fence:
            state = claims.fenced(state, Incarnation(f"n1_{number:032x}"))
        assert claims.permits(state) == frozenset()


@settings(deadline=None)
@given(story=st.lists(LEASES, min_size=1, max_size=8))
def test_the_election_of_one_lease_goes_on_whatever_it_is_shown(story):
    state = lease.Election(incarnation=MINE, timers=TIMERS)
    for number, found in enumerate(story):
        state = lease.observe(state, found, now=1000.0 + number)
        lease.decide(state, now=1000.0 + number)
        assert not state.holding


@pytest.mark.parametrize("text", [HUGE, "²", "٣", "-1", "+5", " 5", ""])
def test_only_a_plain_number_is_one(text):
    found = Lease(metadata=ObjectMeta(name=f"kvip-claims-{text}"[:253], annotations={records.COUNT: text}))
    assert records.count_in(found) is None
    assert records.number_in(found.metadata.name) is None
