"""The listener on a real NIC: floods, what the kernel lets through, NICs that go down; and the default gateways of a namespace."""

import asyncio
import time

import pytest
import uvloop
from pyroute2.netlink.core import CoreDatagramProtocol
from scapy.layers.l2 import ARP, Ether

from kvip.core.model import Vip
from kvip.kernel.listen import FRAMES_PER_TURN, ClaimListener
from kvip.kernel.routes import default_gateways
from lab.netns import NetNamespace
from tests.netns.conflict_segment import ALL, FOREIGN, VIP, VIP6, Segment, Station, arp_claim, na_claim

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]


@pytest.fixture
def wire(run_ip):
    with NetNamespace.create("foreign") as space:
        segment = Segment(run_ip, space)
        try:
            yield segment
        finally:
            run_ip("link", "del", segment.name)


async def test_groups_of_the_asked_addresses_are_let_in_while_asking_and_not_after(wire, run_ip):
    """A real NIC drops other hosts' solicitations for addresses that are not bound here."""
    station = Station(wire.link)
    async with station.running():
        asking = asyncio.create_task(station.watch.probe([VIP6], wire.link))
        await asyncio.sleep(0.02)
        assert "33:33:ff:00:00:07" in run_ip("maddr", "show", "dev", wire.name)
        await asking
        assert "33:33:ff:00:00:07" not in run_ip("maddr", "show", "dev", wire.name)
        asking = asyncio.create_task(station.watch.probe([Vip(f"2001:db8::{n:x}") for n in range(1, 66)], wire.link))
        await asyncio.sleep(0.02)
        assert "allmulti 1" in run_ip("-d", "link", "show", wire.name)
        await asking
        assert "allmulti 0" in run_ip("-d", "link", "show", wire.name)


async def test_a_flood_neither_starves_the_loop_nor_is_lost_unseen(wire):
    station = Station(wire.link, held={VIP})
    noise = bytes(arp_claim("192.0.2.8", FOREIGN)).ljust(60, b"\0")
    turns = 0
    worst_s = 0.0
    async with station.running():
        flood = asyncio.create_task(asyncio.to_thread(wire.foreign_sends, *[noise] * 100_000))
        while not flood.done():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            worst_s = max(worst_s, time.monotonic() - before)
            turns += 1
        await flood
        wire.foreign_sends(*[arp_claim(VIP, FOREIGN)] * 10)
        async with asyncio.timeout(5):
            while not station.told:
                await asyncio.sleep(0.01)
                wire.foreign_sends(arp_claim(VIP, FOREIGN))
        (segment,) = station.watch._segments.values()
        lost = segment.count_lost()
        print(f"flood of 100,000 frames: {turns} turns of the loop, the slowest {worst_s * 1000:.0f} ms, {lost} frames lost and counted")
        assert turns > 20
        assert worst_s < 0.25
        assert 0 < lost < 100_010


async def test_one_turn_reads_a_bounded_number_of_frames(wire):
    listener = ClaimListener(wire.link)
    turns = []
    wire.foreign_sends(*[arp_claim(VIP, FOREIGN)] * (3 * FRAMES_PER_TURN))
    listener.start(lambda claims: turns.append(len(claims)))
    try:
        async with asyncio.timeout(5):
            while sum(turns) < 3 * FRAMES_PER_TURN:
                await asyncio.sleep(0.001)
        assert max(turns) == FRAMES_PER_TURN
        assert listener.take_lost() == 0
    finally:
        listener.close()


async def test_the_kernel_passes_on_arp_and_neighbour_discovery_only(wire):
    listener = ClaimListener(wire.link)
    other = [
        Ether(src=FOREIGN.hex(":"), dst=ALL, type=0x0806) / ARP(op=3, psrc=VIP, hwsrc=FOREIGN.hex(":")),
        Ether(src=FOREIGN.hex(":"), dst=ALL, type=0x0800) / (b"\0" * 46),
        Ether(bytes(na_claim(VIP6, FOREIGN)).replace(b"\x3a\xff", b"\x3a\x40", 1)),
        Ether(bytes(na_claim(VIP6, FOREIGN)).replace(b"\x88\x00", b"\x85\x00", 1)),
        Ether(bytes(na_claim(VIP6, FOREIGN)).replace(b"\x3a\xff", b"\x11\xff", 1)),
        Ether(src=FOREIGN.hex(":"), dst=ALL, type=0x0806) / b"\x00\x01",
    ]
    try:
        wire.foreign_sends(*other)
        for sock in (listener._arp, listener._nd):
            with pytest.raises(BlockingIOError):
                sock.recv(100)
        wire.foreign_sends(arp_claim(VIP, FOREIGN), na_claim(VIP6, FOREIGN))
        assert listener._arp.recv(100)[:42] == bytes(arp_claim(VIP, FOREIGN))[:42]
        assert listener._nd.recv(100) == bytes(na_claim(VIP6, FOREIGN))
    finally:
        listener.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_listening_survives_a_nic_that_goes_down_and_up(wire, run_ip, run):
    async def listen():
        station = Station(wire.link, held={VIP})
        async with station.running():
            run_ip("link", "set", wire.name, "down")
            await asyncio.sleep(0.05)
            run_ip("link", "set", wire.name, "up")
            wire.foreign_sends(arp_claim(VIP, FOREIGN))
            await station.says([("conflict", VIP, FOREIGN, wire.name), ("defend", VIP)])

    run(listen())


# -- never bind --------------------------------------------------------------------------------------------------------


async def test_the_routes_of_vips_are_not_read_for_the_default_gateways(wire, run_ip, monkeypatch):
    lengths, receive = [], CoreDatagramProtocol.datagram_received
    monkeypatch.setattr(
        CoreDatagramProtocol, "datagram_received", lambda self, data, address: lengths.append(len(data)) or receive(self, data, address)
    )

    async def read():
        lengths.clear()
        await default_gateways()
        return sum(lengths)

    before = await read()
    for number in range(1, 21):
        run_ip("addr", "add", f"198.51.100.{number}/32", "dev", wire.name, "noprefixroute")
        run_ip("addr", "add", f"2001:db8::{number:x}/128", "dev", wire.name, "nodad", "noprefixroute")
    assert before > 0
    assert await read() < before + 1_000, "40 routes are more than 2,000 bytes"


async def test_default_gateways_of_both_families_are_read(wire, run_ip):
    assert await default_gateways() == set()
    run_ip("addr", "add", "192.0.2.1/24", "dev", wire.name)
    run_ip("addr", "add", "2001:db8::1/64", "dev", wire.name, "nodad")
    run_ip("route", "add", "default", "via", "192.0.2.254")
    run_ip("route", "add", "default", "metric", "5", "nexthop", "via", "192.0.2.252", "nexthop", "via", "192.0.2.253")
    run_ip("route", "add", "default", "metric", "9", "via", "inet6", "2001:db8::fd", "dev", wire.name)
    run_ip("-6", "route", "add", "default", "via", "2001:db8::fe")
    run_ip("route", "add", "198.51.100.0/24", "via", "192.0.2.99")
    found = {"192.0.2.254", "192.0.2.252", "192.0.2.253", "2001:db8::fd", "2001:db8::fe"}
    assert await default_gateways() == found
    run_ip("route", "del", "default", "metric", "5")
    run_ip("nexthop", "add", "id", "7", "via", "192.0.2.251", "dev", wire.name)
    run_ip("route", "add", "default", "metric", "7", "nhid", "7")
    assert await default_gateways() == found - {"192.0.2.252", "192.0.2.253"} | {"192.0.2.251"}
