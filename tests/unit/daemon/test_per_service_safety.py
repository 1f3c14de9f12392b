"""Mode `per-service` without answers, suspended, stuck, killed, beside another mode, and beyond its groups."""

import asyncio

import pytest

from kvip.core.election.lease import PER_SERVICE, SUCCESSION_ANNOTATION
from kvip.daemon import lease_grants
from tests.unit.daemon.per_service_bench import MAIL, OTHER, PEER, SHARED, TIMERS, VIP, WEB, Bench


@pytest.fixture
def bench():
    return Bench()


def test_without_an_answer_each_lease_ends_by_itself_and_the_next_node_takes_over(bench):
    async def story(n1, n2):
        for node in (n1, n2):
            node.need(VIP, WEB)
        await asyncio.sleep(1)
        holder, other = (n1, n2) if n1.bound else (n2, n1)
        bench.store.down.add(holder.name)
        cut = bench.clock.now()
        while holder.bound:
            await asyncio.sleep(0.05)
        assert bench.clock.now() - cut <= TIMERS.renew_deadline_s + 0.1
        await asyncio.sleep(4)
        assert other.bound == {VIP}

    bench.play(story, "n1", "n2")


def test_r4_a_suspend_fences_the_whole_node_once(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        n1.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        bench.clock.suspend(0.2)
        assert n1.elector.permit(VIP) is None
        assert n1.elector.permit(OTHER) is None
        assert [entry for entry in n1.told if entry[0] == "fenced"] == [("fenced", "suspend")]
        await asyncio.sleep(1)
        assert n1.bound == {VIP, OTHER}

    bench.play(story)


def test_r5_a_node_that_cannot_act_renews_nothing(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        await asyncio.sleep(0.5)
        n1.heartbeats.beat = lambda name: None
        await asyncio.sleep(2 * TIMERS.renew_deadline_s + 1)
        assert n1.bound == set()

    bench.play(story)


def test_r7_what_a_killed_predecessor_held_by_any_lease_is_free_at_once(bench):
    async def story(n1):
        life = "n1_" + "a" * 24
        bench.store.put(WEB, life + "00000007")
        bench.store.put(MAIL, "n1_" + "b" * 32)
        n1.elector.trust_predecessor(life + "00000000", lately=True)
        n1.need(VIP, WEB)
        n1.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        assert n1.bound == {VIP}

    bench.play(story)


def test_g5_nothing_is_taken_beside_a_holder_of_the_shared_lease_in_another_mode(bench):
    async def story(n1):
        bench.store.put(SHARED, PEER)
        await asyncio.sleep(0.1)
        n1.need(VIP, WEB)
        await asyncio.sleep(3)
        assert n1.bound == set()
        assert PEER in n1.elector.blocked
        await asyncio.sleep(4)
        assert n1.bound == {VIP}
        assert bench.store.leases[SHARED].metadata.annotations[SUCCESSION_ANNOTATION].startswith(PER_SERVICE)

    bench.play(story)


def test_g5_a_node_that_starts_says_nothing_of_another_mode_before_it_read_the_lease(bench):
    async def story(n1):
        assert n1.elector.blocked == ""
        await asyncio.sleep(0.0005)
        assert n1.elector.blocked == ""

    bench.play(story)


def test_every_change_of_hands_is_another_succession_so_that_the_segment_is_asked(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        await asyncio.sleep(0.5)
        first = n1.elector.succeeds(VIP)
        await asyncio.sleep(3)
        assert n1.elector.succeeds(VIP) == first != ""
        bench.store.put(WEB, PEER)
        await asyncio.sleep(7)
        assert n1.elector.succeeds(VIP) not in (first, "")

    bench.play(story)


def test_who_waits_asks_nothing_of_the_api_about_the_services_leases(bench):
    async def story(n1, n2):
        bench.store.put(SHARED, PEER, annotations={SUCCESSION_ANNOTATION: f"{PER_SERVICE}0"})
        for number in range(20):
            bench.store.put(f"shop/kubevip-{number}", PEER)
            n1.need(f"10.0.1.{number}", f"shop/kubevip-{number}")
        await asyncio.sleep(0.5)
        bench.store.requests.clear()
        for _ in range(10):
            await asyncio.sleep(1)
            for key in tuple(bench.store.leases):
                bench.store.put(key, PEER, annotations=bench.store.leases[key].metadata.annotations)
        assert len([node for node, _ in bench.store.requests if node == "n1"]) <= 10

    bench.play(story, "n1", "n2")


def test_a_node_holds_no_more_leases_than_there_are_groups(bench, monkeypatch):
    monkeypatch.setattr("kvip.daemon.candidacy.GROUPS", 5)
    monkeypatch.setattr(lease_grants, "group_names", lambda: ("s0", "s1", "s2", "s3", "s4"))

    async def story(n1, n2):
        for number in range(8):
            for node in (n1, n2):
                node.need(f"10.0.1.{number}", f"shop/kubevip-{number}")
        await asyncio.sleep(6)
        assert len(n1.bound | n2.bound) == 8
        assert not n1.bound & n2.bound
        assert max(len(n1.bound), len(n2.bound)) <= 5

    bench.play(story, "n1", "n2")
