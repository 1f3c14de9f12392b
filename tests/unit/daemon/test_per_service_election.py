"""Each Service its Lease: what hangs on it, what shares an address, and who stands for it (PROTOCOL G3)."""

import asyncio

import pytest

from kvip.core.election.lease import RELEASED_ANNOTATION
from tests.unit.daemon.per_service_bench import MAIL, OTHER, PEER, VIP, WEB, Bench


@pytest.fixture
def bench():
    return Bench()


def test_a_new_service_gets_its_own_lease_and_its_address_is_held_by_it(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        n1.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        assert n1.bound == {VIP, OTHER}
        assert bench.store.holder(WEB) == bench.store.holder(MAIL) == "n1"
        assert n1.elector.group(VIP) != n1.elector.group(OTHER)
        assert bench.store.leases[WEB].spec.holder_identity != bench.store.leases[MAIL].spec.holder_identity

    bench.play(story)


def test_a_lease_taken_by_another_takes_down_what_hangs_on_it_and_nothing_else(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        n1.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        group = n1.elector.group(VIP)
        bench.store.put(WEB, PEER, transitions=3)
        await asyncio.sleep(0.1)
        assert n1.bound == {OTHER}
        assert group not in n1.groups
        assert n1.elector.permit(VIP) is None
        assert n1.elector.elsewhere(VIP)
        await asyncio.sleep(6)
        assert n1.bound == {VIP, OTHER}, "taken over once it stood still"

    bench.play(story)


def test_the_lease_is_given_back_with_the_service_and_the_next_of_its_name_is_served_at_once(bench):
    async def story(n1):
        for _ in range(3):
            n1.need(VIP, WEB)
            await asyncio.sleep(0.5)
            assert n1.bound == {VIP}
            n1.need(VIP)
            await asyncio.sleep(0.05)
            assert n1.bound == set()
        await asyncio.sleep(0.5)
        assert bench.store.holder(WEB) == ""
        assert bench.store.leases[WEB].metadata.annotations[RELEASED_ANNOTATION]

    bench.play(story)


@pytest.mark.parametrize("name", ["n2", "kube", "a-node-with-a-long-name", PEER])
def test_g1_the_lease_of_a_living_holder_is_left_alone_whatever_it_is_called(bench, name):
    async def story(n1):
        bench.store.put(WEB, name)
        n1.need(VIP, WEB)
        for _ in range(30):
            await asyncio.sleep(1)
            bench.store.put(WEB, name)
        assert n1.bound == set()
        assert bench.store.leases[WEB].spec.holder_identity == name

    bench.play(story)


def test_g3_an_address_waits_for_all_leases_of_the_services_that_share_it(bench):
    async def story(n1):
        bench.store.put(MAIL, PEER)
        n1.need(VIP, WEB, MAIL)
        await asyncio.sleep(3)
        assert bench.store.holder(WEB) == "n1"
        assert n1.bound == set()
        await asyncio.sleep(3)
        assert n1.bound == {VIP}
        assert bench.store.holder(MAIL) == "n1"

    bench.play(story)


def test_g3_a_sibling_comes_and_goes_without_a_gap(bench):
    async def story(n1, n2):
        for node in (n1, n2):
            node.need(VIP, WEB)
        await asyncio.sleep(1)
        (holder,) = [node for node in (n1, n2) if node.bound]
        holder.told.clear()
        for leases in ((WEB, MAIL), (MAIL,), (MAIL, WEB)):
            for node in (n2, n1):
                node.need(VIP, *leases)
            await asyncio.sleep(3)
            assert holder.bound == {VIP}
            assert all(bench.store.holder(lease) == holder.name for lease in leases)
        assert {what for what, _ in holder.told} == {"regrouped"}

    bench.play(story, "n1", "n2")


def test_g3_an_address_is_held_for_those_services_of_which_the_lease_is(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        await asyncio.sleep(1)
        n1.need(VIP, WEB, MAIL)
        assert (n1.elector.covers(VIP, WEB), n1.elector.covers(VIP, MAIL)) == (True, False)
        await asyncio.sleep(1)
        assert (n1.elector.covers(VIP, WEB), n1.elector.covers(VIP, MAIL)) == (True, True)

    bench.play(story)


def test_g3_two_nodes_that_hold_one_lease_each_do_not_wait_for_each_other(bench):
    async def story(n1, n2):
        n1.need(VIP, WEB)
        n2.need(OTHER, MAIL)
        await asyncio.sleep(1)
        assert (bench.store.holder(WEB), bench.store.holder(MAIL)) == ("n1", "n2")
        for node in (n1, n2):
            node.need(VIP, WEB, MAIL)
            node.need(OTHER)
        await asyncio.sleep(0.2)
        assert bench.store.holder(WEB) == bench.store.holder(MAIL)
        assert len(n1.bound) + len(n2.bound) == 1

    bench.play(story, "n1", "n2")


def test_only_a_node_that_can_serve_it_stands_for_a_lease_and_who_no_longer_can_hands_it_over(bench):
    async def story(n1, n2):
        n1.unable = {VIP}
        for node in (n1, n2):
            node.need(VIP, WEB)
        await asyncio.sleep(1)
        assert n2.bound == {VIP}
        n1.unable, n2.unable = set(), {VIP}
        for node in (n1, n2):
            node.elector.demand_changed([VIP])
        await asyncio.sleep(2.5)
        assert (n1.bound, n2.bound) == ({VIP}, set())

    bench.play(story, "n1", "n2")
