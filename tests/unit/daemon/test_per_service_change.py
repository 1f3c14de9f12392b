"""An address comes to hang on another Lease: whoever held it by the former one has let go before the next one does (PROTOCOL G3)."""

import asyncio

import pytest

from tests.unit.daemon.per_service_bench import MAIL, OTHER, VIP, WEB, Bench


@pytest.fixture
def bench():
    return Bench()


async def _held(*nodes):
    """(holder, other) of the address, by the Lease of the first Service."""
    for node in nodes:
        node.need(VIP, WEB)
    await asyncio.sleep(1)
    (holder,) = [node for node in nodes if node.bound]
    (other,) = [node for node in nodes if node is not holder]
    return holder, other


@pytest.mark.parametrize("steps", [[(MAIL,)], [(WEB, MAIL), (MAIL,)], [(), (MAIL,)]], ids=["at once", "shared before", "a pause"])
def test_g3_a_holder_without_an_answer_of_the_api_is_waited_for(bench, steps):
    """It does not hear that its Service is gone, and may act until its renew deadline."""

    async def story(n1, n2):
        holder, other = await _held(n1, n2)
        bench.store.down.add(holder.name)
        for leases in steps:
            other.need(VIP, *leases)
            await asyncio.sleep(0.05)
        while holder.bound:
            assert not other.bound
            await asyncio.sleep(0.05)
        await asyncio.sleep(4)
        assert other.bound == {VIP}

    bench.play(story, "n1", "n2")


def test_g3_a_holder_that_lets_go_is_not_waited_for(bench):
    async def story(n1, n2):
        holder, other = await _held(n1, n2)
        holder.need(VIP)
        other.need(VIP)
        await asyncio.sleep(0.1)
        other.need(VIP, MAIL)
        await asyncio.sleep(0.2)
        assert other.bound == {VIP}

    bench.play(story, "n1", "n2")


def test_g3_a_holder_that_does_not_win_the_next_lease_gives_the_address_up(bench):
    """Two answers are ruled out by no Lease that it still holds."""

    async def story(n1, n2):
        holder, other = await _held(n1, n2)
        holder.unable = {VIP}
        holder.need(VIP, MAIL)
        other.need(VIP, MAIL)
        await asyncio.sleep(1)
        assert (holder.bound, other.bound) == ({VIP}, set())
        await asyncio.sleep(3)
        assert (holder.bound, other.bound) == (set(), {VIP})

    bench.play(story, "n1", "n2")


def test_g3_a_holder_that_needs_the_former_lease_for_another_address_is_not_waited_for_without_end(bench):
    async def story(n1, n2):
        holder, other = await _held(n1, n2)
        holder.need(OTHER, WEB)
        await asyncio.sleep(0.5)
        holder.need(VIP)
        other.need(VIP, MAIL)
        await asyncio.sleep(13.5)
        assert (holder.bound, other.bound) == ({OTHER}, {VIP})

    bench.play(story, "n1", "n2")


def test_g3_who_has_the_next_lease_already_waits_no_less(bench):
    async def story(n1, n2):
        holder, other = await _held(n1, n2)
        other.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        bench.store.down.add(holder.name)
        other.need(VIP, MAIL)
        while holder.bound:
            assert other.bound == {OTHER}
            await asyncio.sleep(0.05)
        await asyncio.sleep(4)
        assert other.bound == {VIP, OTHER}

    bench.play(story, "n1", "n2")
