"""The reconcile loop puts right what others did to the kernel, tries again in time, and starts again."""

import asyncio
import errno

import pytest

from kvip import metrics
from kvip.core.model import Vip
from kvip.daemon.reconcile_loop import TICK_S, VIPS_PER_TURN
from kvip.errors import NetlinkError
from kvip.kernel.answers import OpResult
from tests.unit.daemon.fake_ports import (
    ETH0,
    ETH1,
    LIFETIME_S,
    OTHER,
    VIP,
    WEB,
    many_services,
    marked,
    service,
)
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    return House()


def test_a_vip_that_someone_removed_is_put_back_and_announced_again_and_counted(house):
    before = metrics.put_back_total._value.get()

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.log.clear()
        house.kernel.drop(VIP)
        house.upkeep.on_address(marked(), False)
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == {VIP}
        assert house.log[-1] == ("start", VIP)

    house.play(story)
    assert metrics.put_back_total._value.get() - before == 1


def test_what_nobody_reported_is_found_by_the_audit(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.kernel.drop(VIP)
        house.kernel.put(marked(OTHER))
        await asyncio.sleep(60)
        assert house.kernel.ours() == {VIP}

    house.play(story)


def test_a_thousand_vips_flushed_by_someone_come_back_at_once_turn_by_turn(house):
    house.apply(*many_services(1000))

    async def story():
        await asyncio.sleep(1)
        acts, act = [], house.turn.act
        house.turn.act = lambda dirty, again, **renewals: acts.append(len(dirty)) or act(dirty, again, **renewals)
        house.kernel.table.clear()
        house.upkeep.doubt("overrun")
        await asyncio.sleep(0.01)
        assert len(house.kernel.ours()) == 1000
        assert sum(acts) == 1000
        assert len(acts) <= 1000 / VIPS_PER_TURN + 2

    house.play(story)


def test_k7_rules_that_someone_flushed_are_put_back_and_the_vip_stays_bound(house):
    async def story():
        house.apply(service(VIP))
        house.wires.renewed(house.clock.now() + 30)
        await asyncio.sleep(1)
        house.switch.flush()
        house.upkeep.doubt_rules()
        await asyncio.sleep(0.001)
        assert house.switch.answers(VIP)
        assert house.elector.fences == []

    house.play(story)


def test_a_failing_bind_comes_back_in_its_time_and_succeeds(house):
    house.apply(service(VIP))
    house.kernel.refuse[VIP] = errno.EINVAL
    tries = []

    async def story():
        for _ in range(170):
            house.log.clear()
            await asyncio.sleep(0.1)
            tries.extend([round(house.clock.now() - 1000)] * house.log.count(("add", VIP)))
        house.kernel.refuse.clear()
        await asyncio.sleep(20)
        assert house.kernel.ours() == {VIP}

    house.play(story)
    assert tries == [1, 3, 7, 15]


def test_k9_lifetimes_are_renewed_before_two_thirds_are_gone_a_share_per_tick(house):
    house.apply(*many_services(1200))
    renewed = []

    async def story():
        await asyncio.sleep(1)
        for _ in range(300):
            house.log.clear()
            await asyncio.sleep(0.1)
            renewed.append(sum(1 for call, _ in house.log if call == "replace"))
        assert sum(renewed) == 1200
        assert max(renewed) <= 1200 * 12 * TICK_S / LIFETIME_S
        assert all(
            bound.expires_at - house.clock.now() > LIFETIME_S / 3 for vip in house.facts.marked() for bound in house.facts.bound(vip)
        )

    house.play(story)


def test_what_its_renewal_finds_gone_is_put_back_at_once(house):
    """Someone deleted it, and the kernel refused to put it back with the renewal; no message told of it."""
    kernel = house.kernel

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        one = kernel.one

        def refusing(operation):
            if operation.kind != "replace":
                return one(operation)
            kernel.drop(operation.address.ip)
            return OpResult(operation=operation, errno=errno.EADDRNOTAVAIL, ext_ack="", seen=None)

        kernel.one = refusing
        while kernel.ours():
            await asyncio.sleep(0.01)
        kernel.one = one
        await asyncio.sleep(0.1)
        assert kernel.ours() == {VIP}

    house.play(story)


def test_i7_what_was_asked_for_and_never_bound_is_not_called_removed(house, caplog):
    def broken(operations):
        house.kernel.dump_broken = NetlinkError(errno.ENOBUFS, "dump", "addresses")
        raise NetlinkError(errno.ENOBUFS, "apply", "addresses")

    async def story():
        house.kernel.apply, apply = broken, house.kernel.apply
        house.apply(service(VIP))
        await asyncio.sleep(0.1)
        assert house.facts.unconfirmed(VIP)
        house.kernel.apply, house.kernel.dump_broken = apply, None
        await asyncio.sleep(3)
        assert house.kernel.ours() == {VIP}
        assert "removed by someone else" not in caplog.text

    house.play(story)


def test_each_turn_is_a_beat_of_the_heart(house):
    async def story():
        for _ in range(20):
            await asyncio.sleep(0.3)
            assert house.heartbeats.age_s("reconcile") <= TICK_S

    house.play(story)


def test_a_loop_that_starts_again_looks_at_everything_again(house):
    async def story():
        await asyncio.sleep(1)
        house.services.store[WEB] = service(VIP)
        house.links = [ETH0, ETH1]
        await house.start_again()
        await asyncio.sleep(0.001)
        assert house.facts.link("eth1") == ETH1
        assert house.kernel.ours() == {VIP}

    house.play(story)


def test_k7_a_loop_that_starts_again_looks_at_the_rules(house):
    async def story():
        await asyncio.sleep(1)
        house.switch.flush()
        await house.start_again()
        await asyncio.sleep(0.001)
        assert house.switch.there

    house.play(story)


def test_what_a_former_daemon_left_is_reported_only_after_every_service_was_read(house):
    house.outcome.found_at_start({Vip("10.0.2.1"): (), VIP: ()})
    swept = metrics.swept_total._value.get()
    house.desire.read_through(False)
    house.apply(*many_services(600))

    async def story():
        await asyncio.sleep(1)

    house.play(story)
    assert metrics.swept_total._value.get() - swept == 1


def test_i2_a_place_in_the_switch_that_could_not_be_given_up_goes_at_the_next_audit(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.switch.fails = {"remove"}
        house.delete()
        await asyncio.sleep(1)
        assert (house.kernel.ours(), house.switch.places) == (set(), {VIP: "main"})
        house.switch.fails = set()
        await asyncio.sleep(61)
        assert house.switch.places == {}

    house.play(story)
