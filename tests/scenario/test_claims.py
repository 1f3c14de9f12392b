"""Mode `claims` on three nodes: who holds what (rules T1 to T5), read from the Leases as an administrator does and judged on the wire."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from lab.claimsview import CLAIMS as NOTE
from lab.claimsview import COUNT, HEARTBEAT, RECORD, delete, edit, every_name, heartbeat, holders, leases, record_of, records
from lab.cluster import CLAIMS, Cluster, now, wait
from lab.prober import Prober
from lab.scene import LEASE_S, TAKE_OVER_S

VIPS = tuple(f"10.10.0.{n}" for n in range(210, 222))
INCARNATION = re.compile(r"(n\d)_[0-9a-f]{32}")
BACK_S = LEASE_S + 3.0
"""Bound for a VIP that has to wait out a lease because what was written of it is gone."""


@pytest.fixture(scope="module", autouse=True)
def three_nodes(shared_cluster: Cluster) -> Iterator[None]:
    shared_cluster.use(CLAIMS)
    shared_cluster.start()
    with shared_cluster.joined_by("n3"):
        yield


@pytest.fixture
def held(cluster: Cluster) -> dict[str, str]:
    """A Service per VIP; returns VIP -> the node that has it bound."""
    for number, vip in enumerate(VIPS):
        cluster.create(f"web{number}", vip)
    return _bound(cluster)


def _places(cluster: Cluster) -> dict[str, list[str]]:
    left = cluster.left()
    return {vip: [node for node, vips in left.items() if vip in vips] for vip in VIPS}


def _bound(cluster: Cluster, *, timeout_s: float = 5.0) -> dict[str, str]:
    wait(lambda: all(len(nodes) == 1 for nodes in _places(cluster).values()), "every VIP on one node", timeout_s=timeout_s)
    return {vip: node for vip, (node,) in _places(cluster).items()}


def _two_answers_s(prober: Prober) -> float:
    return max(prober.report(vip).two_answers_s for vip in VIPS)


def _silence_s(prober: Prober) -> float:
    return max(prober.report(vip).longest_silence_s for vip in VIPS)


def test_t5_vips_are_spread_over_all_nodes_and_each_has_one_holder(cluster: Cluster, held: dict[str, str]) -> None:
    print(f"VIPs per node: {dict(Counter(held.values()))}")
    assert set(held.values()) == set(cluster.nodes)
    with cluster.judging(*VIPS) as prober:
        wait(lambda: prober.report(VIPS[-1]).observed_s > 1.0, "observed", timeout_s=5)
        assert {vip: set(prober.report(vip).macs) for vip in VIPS} == {vip: {cluster.lan.mac(node)} for vip, node in held.items()}
        assert _two_answers_s(prober) == 0


def test_leases_tell_an_administrator_who_holds_what(cluster: Cluster, held: dict[str, str]) -> None:
    seen = leases(cluster)
    assert set(seen) == every_name(cluster), "every Lease has the label"
    assert COUNT in seen
    incarnations = {node: heartbeat(cluster, node).holder for node in cluster.nodes}
    for node, incarnation in incarnations.items():
        found = INCARNATION.fullmatch(incarnation)
        assert found is not None
        assert found[1] == node
    assert {vip: who.partition("_")[0] for vip, who in holders(cluster).items()} == held
    assert set(holders(cluster).values()) <= set(incarnations.values())
    for name, record in records(cluster).items():
        shown = ", ".join(f"{who.partition('_')[0]} ({len(vips)})" for who, vips in sorted(record.claims.items()))
        assert record.holder == shown, name


def test_t2_t3_a_killed_nodes_heartbeat_is_ended_before_the_survivors_share_its_vips(cluster: Cluster, held: dict[str, str]) -> None:
    victim = cluster.nodes[held[VIPS[0]]]
    lost = {vip for vip, node in held.items() if node == victim.node}
    before = heartbeat(cluster, victim.node).holder
    with cluster.judging(*VIPS) as prober:
        victim.kill9()
        macs = {cluster.lan.mac(name) for name in cluster.nodes if name != victim.node}
        wait(lambda: all(prober.holders_now(vip) & macs for vip in lost), "survivors answer", timeout_s=TAKE_OVER_S + 2)
        time.sleep(0.3)
        print(f"{len(lost)} VIPs moved, longest silence {_silence_s(prober):.2f} s")
        assert _silence_s(prober) <= TAKE_OVER_S
        assert _two_answers_s(prober) == 0
        kept = [prober.report(vip).longest_silence_s for vip in set(VIPS) - lost]
        assert max(kept) < 0.5, "what others hold is not touched"
    ended = heartbeat(cluster, victim.node)
    assert ended.holder == ""
    killer = next(note for note in ended.notes.values() if note.startswith(f"{before} killed by "))
    assert killer.removeprefix(f"{before} killed by ") in {heartbeat(cluster, name).holder for name in cluster.nodes if name != victim.node}
    assert min(record_of(cluster, vip).version for vip in lost) > ended.version
    assert not any(who == before for who in holders(cluster).values())
    assert set(Counter(who.partition("_")[0] for who in holders(cluster).values())) == set(cluster.nodes) - {victim.node}


@pytest.mark.slow
def test_t2_a_frozen_node_whose_heartbeat_was_ended_wakes_up_silent_and_as_another_incarnation(
    cluster: Cluster, held: dict[str, str]
) -> None:
    frozen = cluster.nodes[held[VIPS[0]]]
    lost = [vip for vip, node in held.items() if node == frozen.node]
    before, mac = heartbeat(cluster, frozen.node).holder, cluster.lan.mac(frozen.node)
    with cluster.judging(*VIPS) as prober, cluster.sniffing(*VIPS) as sniffer:
        frozen.freeze()
        wait(lambda: heartbeat(cluster, frozen.node).holder == "", "its heartbeat is ended", timeout_s=TAKE_OVER_S)
        for vip in lost:
            assert prober.wait_answer(vip, timeout_s=2)
        woken = now()
        frozen.thaw()
        wait(lambda: heartbeat(cluster, frozen.node).holder not in ("", before), "a new incarnation", timeout_s=5)
        time.sleep(0.7)
        assert not [answer for vip in lost for answer in prober.answers(vip) if answer.at_s > woken and answer.mac == mac]
        assert not [frame for frame in sniffer.frames if frame.at_s > woken and frame.sender_mac == mac and frame.claimed in lost]
        assert _two_answers_s(prober) == 0
    assert frozen.vips() == []


def _heartbeat_deleted(cluster: Cluster, vip: str, node: str) -> None:
    delete(cluster, HEARTBEAT + node)


def _heartbeat_blanked(cluster: Cluster, vip: str, node: str) -> None:
    edit(cluster, HEARTBEAT + node, holder="")


def _record_deleted(cluster: Cluster, vip: str, node: str) -> None:
    delete(cluster, record_of(cluster, vip).name)


def _record_blanked(cluster: Cluster, vip: str, node: str) -> None:
    edit(cluster, record_of(cluster, vip).name, holder="", notes={NOTE: None})


def _record_names_another(cluster: Cluster, vip: str, node: str) -> None:
    record = record_of(cluster, vip)
    other = heartbeat(cluster, next(name for name in cluster.nodes if name != node)).holder
    claims = {who: [each for each in vips if each != vip] for who, vips in record.claims.items()}
    claims[other] = [*claims.get(other, []), vip]
    edit(cluster, record.name, notes={NOTE: json.dumps(claims)})


def _all_deleted(cluster: Cluster, vip: str, node: str) -> None:
    for name in every_name(cluster):
        delete(cluster, name)


EDITS = (_heartbeat_deleted, _heartbeat_blanked, _record_deleted, _record_blanked, _record_names_another, _all_deleted)
DEFAULT = (_all_deleted,)


@pytest.mark.parametrize(
    "change", [pytest.param(change, id=change.__name__.strip("_"), marks=[pytest.mark.slow] * (change not in DEFAULT)) for change in EDITS]
)
def test_t4_what_is_changed_by_hand_is_never_free_at_once(cluster: Cluster, held: dict[str, str], change) -> None:
    vip = VIPS[0]
    former = holders(cluster)[vip]
    with cluster.judging(*VIPS) as prober:
        changed = now()
        change(cluster, vip, held[vip])
        assert prober.wait_silent(vip, for_s=0.3, timeout_s=1.0), "its holder lets go at once, and nobody takes at once"
        for each in VIPS:
            assert prober.wait_answer(each, timeout_s=BACK_S)
        print(f"{change.__name__}: {vip} answered again {now() - changed:.2f} s later, longest silence {_silence_s(prober):.2f} s")
        time.sleep(0.5)
        assert _two_answers_s(prober) == 0
        assert _silence_s(prober) <= BACK_S
    assert holders(cluster)[vip] != former
    assert set(every_name(cluster)) == set(leases(cluster))
    assert {name for name in leases(cluster) if not name.startswith(RECORD)} == {COUNT, *(HEARTBEAT + node for node in cluster.nodes)}
