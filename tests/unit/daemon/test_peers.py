"""The other nodes as a node of mode `claims` sees them: MACs, who lives, and who speaks for which Service."""

import pytest

from kvip.core.election.heartbeat import About, Heartbeat, Nic
from kvip.core.election.lease import Timers
from kvip.core.election.members import Member
from kvip.core.election.state import State
from kvip.daemon.peers import Peers

UIDS = [f"uid-{number}" for number in range(60)]
TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)


def member(node, *macs, changed_at=100.0):
    about = About(nics=tuple(Nic(name="eth0", mac=mac) for mac in macs))
    beat = Heartbeat(
        node=node,
        holder=f"{node}_" + "0" * 32,
        version="1",
        uid="u",
        mark="m",
        sequence=1,
        duration_s=5,
        transitions=0,
        intact=True,
        about=about,
    )
    return Member(beat=beat, named=beat.holder, changed_at=changed_at, holder_since=changed_at, silence_s=5.0)


def looked(node, members, *, now=101.0, valid=True):
    peers = Peers(node)
    state = State(node=node, timers=TIMERS, incarnation=f"{node}_" + "0" * 32, configured_count=64, members=members, fresh_since=0.0)
    peers.look(state, now=now, valid=valid)
    return peers


@pytest.fixture
def three():
    return {node: member(node, f"02:00:00:00:00:0{node[-1]}") for node in ("n1", "n2", "n3")}


def test_macs_are_those_of_the_other_nodes(three):
    assert looked("n1", three).macs == {bytes.fromhex("020000000002"), bytes.fromhex("020000000003")}


def test_a_dead_nodes_mac_is_still_a_peers(three):
    assert bytes.fromhex("020000000003") in looked("n1", {**three, "n3": member("n3", "02:00:00:00:00:03", changed_at=1.0)}).macs


@pytest.mark.parametrize("mac", ["", "nonsense", "02:00"])
def test_a_mac_that_is_none_is_passed_over(three, mac):
    assert looked("n1", {**three, "n2": member("n2", mac)}).macs == {bytes.fromhex("020000000003")}


def test_every_node_agrees_on_one_speaker_per_service_and_all_have_some(three):
    spoken = {node: {uid for uid in UIDS if looked(node, three).chose_us(uid)} for node in three}
    assert sorted(uid for uids in spoken.values() for uid in uids) == sorted(UIDS)
    assert all(spoken.values())


def test_what_a_dead_node_spoke_for_goes_to_the_living_and_nothing_else_moves(three):
    before = {uid for uid in UIDS if looked("n1", three).chose_us(uid)}
    dead = {**three, "n3": member("n3", changed_at=1.0)}
    after = {node: {uid for uid in UIDS if looked(node, dead).chose_us(uid)} for node in ("n1", "n2")}
    assert before < after["n1"]
    assert after["n1"] | after["n2"] == set(UIDS)


def test_a_node_that_may_not_act_speaks_for_nobody(three):
    assert not any(looked("n1", three, valid=False).chose_us(uid) for uid in UIDS)
