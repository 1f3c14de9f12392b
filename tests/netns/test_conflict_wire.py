"""Address conflicts on a real wire: a foreign kernel that answers, silence, probes that cross, claims while holding."""

import asyncio
import socket

import pytest
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from kvip.core.model import Link, Vip
from kvip.errors import AnnounceError
from kvip.kernel.listen import ClaimListener
from kvip.kernel.packet import PacketSocket, build_round
from lab.netns import NetNamespace
from tests.netns.conflict_segment import ALL, FOREIGN, MAC, VIP, VIP6, Segment, Station, arp_claim, na_claim

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]


@pytest.fixture
def wire(run_ip):
    with NetNamespace.create("foreign") as space:
        segment = Segment(run_ip, space)
        try:
            yield segment
        finally:
            run_ip("link", "del", segment.name)


# -- before the first bind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vip", [VIP, VIP6])
async def test_a_foreign_host_is_found_with_its_mac_within_200_ms(wire, vip):
    wire.foreign_has(vip)
    station = Station(wire.link)
    async with station.running():
        answers, took_s = await station.probe(vip)
        assert answers == {vip: FOREIGN}
        assert took_s < 0.2
        assert station.told == [("conflict", vip, FOREIGN, wire.name)]
        assert station.watch.conflicting(vip) == FOREIGN
        assert not station.watch.may_bind(vip)


async def test_silence_takes_three_intervals_and_finds_nobody(wire):
    station = Station(wire.link)
    async with station.running():
        answers, took_s = await station.probe(VIP, VIP6)
        assert answers == {}
        assert 0.15 <= took_s < 0.3
        assert station.told == []
        assert station.watch.may_bind(VIP)


async def test_only_the_taken_ones_of_many_are_named(wire):
    taken = [Vip("192.0.2.9"), Vip("2001:db8::9")]
    wire.foreign_has(*taken)
    station = Station(wire.link)
    async with station.running():
        answers, _ = await station.probe(VIP, taken[0], VIP6, taken[1])
        assert answers == dict.fromkeys(taken, FOREIGN)


async def test_1000_addresses_are_asked_for_in_one_go_within_400_ms(wire):
    vips = [Vip(f"10.1.{n // 250}.{n % 250 + 1}") for n in range(500)] + [Vip(f"2001:db8:1::{n:x}") for n in range(1, 501)]
    taken = [*vips[::100], *vips[499:500]]
    wire.foreign_has(*taken)
    station = Station(wire.link)
    async with station.running():
        answers, took_s = await station.probe(*vips)
        print(f"1,000 addresses asked for in {took_s * 1000:.0f} ms")
        assert answers == dict.fromkeys(taken, FOREIGN)
        assert took_s < 0.4


async def test_every_one_of_1000_taken_addresses_is_noticed(wire):
    vips = [Vip(f"10.1.{n // 250}.{n % 250 + 1}") for n in range(1000)]
    wire.foreign_has(*vips)
    station = Station(wire.link)
    async with station.running():
        answers, _ = await station.probe(*vips)
        assert answers == dict.fromkeys(vips, FOREIGN)


@pytest.mark.parametrize("vip", [VIP, VIP6])
async def test_two_that_ask_at_the_same_time_both_hear_of_it(wire, vip):
    here = Station(wire.link)
    there = Station(wire.foreign_link, listen=lambda link: wire.space.call(lambda: ClaimListener(link)))
    async with here.running(), there.running():
        (heard_here, _), (heard_there, _) = await asyncio.gather(here.probe(vip), there.probe(vip))
        assert heard_here == {vip: FOREIGN}
        assert heard_there == {vip: MAC}


async def test_a_nic_without_carrier_proves_nothing(wire):
    station = Station(wire.link)
    station.links[wire.link.index] = Link(index=wire.link.index, name=wire.name, mac=MAC, up=True, carrier=False)
    with pytest.raises(AnnounceError, match="no carrier"):
        await station.watch.probe([VIP], wire.link)


async def test_a_nic_that_goes_down_or_away_while_asking_proves_nothing(wire, run_ip):
    station = Station(wire.link)
    async with station.running():
        asking = asyncio.create_task(station.watch.probe([VIP], wire.link))
        await asyncio.sleep(0.02)
        run_ip("link", "set", wire.name, "down")
        with pytest.raises(AnnounceError, match="probes cannot be sent"):
            await asking
        run_ip("link", "set", wire.name, "up")
        wire.foreign_has(VIP)
        async with asyncio.timeout(5):
            while await station.watch.probe([VIP], wire.link) != {VIP: FOREIGN}:
                pass


async def test_a_probe_moves_no_neighbours_cache(wire):
    """Else asking for a taken address would do the harm that it is to prevent."""
    wire.foreign_has(VIP, VIP6)
    station = Station(wire.link)
    async with station.running():
        await station.probe(VIP, VIP6)
    assert MAC.hex(":") not in wire.space.run("ip", "neigh").stdout


async def test_a_conflict_ends_by_itself_when_the_foreign_host_goes(wire):
    wire.foreign_has(VIP, VIP6)
    station = Station(wire.link, retry_s=0.5)
    async with station.running():
        await station.probe(VIP, VIP6)
        station.told.clear()
        await asyncio.sleep(1.5)
        assert station.told == []
        wire.space.ip_batch(["addr flush dev eth0"])
        await station.says([("ended", VIP), ("ended", VIP6)], within_s=4.0)
        assert station.watch.conflicting(VIP) is None
        assert station.watch.may_bind(VIP)


# -- while holding -----------------------------------------------------------------------------------------------------


CLAIMS = {
    "gratuitous ARP request": (VIP, arp_claim(VIP, FOREIGN)),
    "gratuitous ARP reply": (VIP, arp_claim(VIP, FOREIGN, op=2)),
    "ARP request for another": (VIP, Ether(src=FOREIGN.hex(":"), dst=ALL) / ARP(hwsrc=FOREIGN.hex(":"), psrc=VIP, pdst="192.0.2.99")),
    "advertisement": (VIP6, na_claim(VIP6, FOREIGN)),
    "solicitation from the VIP": (
        VIP6,
        Ether(src=FOREIGN.hex(":"), dst="33:33:ff:00:00:99")
        / IPv6(src=VIP6, dst="ff02::1:ff00:99", hlim=255)
        / ICMPv6ND_NS(tgt="2001:db8::99")
        / ICMPv6NDOptSrcLLAddr(lladdr=FOREIGN.hex(":")),
    ),
}


@pytest.mark.parametrize("kind", CLAIMS)
async def test_f2_a_strangers_claim_is_reported_once_and_defended_once(wire, kind):
    vip, frame = CLAIMS[kind]
    station = Station(wire.link, held={vip})
    async with station.running():
        for _ in range(5):
            wire.foreign_sends(frame)
        await station.says([("conflict", vip, FOREIGN, wire.name), ("defend", vip)])
        await asyncio.sleep(0.05)
        assert len(station.told) == 2
        assert station.watch.conflicting(vip) == FOREIGN
        assert station.watch.may_bind(vip)


@pytest.mark.parametrize("kind", CLAIMS)
async def test_f2_a_peers_claim_goes_to_the_election_and_is_not_defended(wire, kind):
    vip, frame = CLAIMS[kind]
    station = Station(wire.link, held={vip}, peers={FOREIGN})
    async with station.running():
        for _ in range(5):
            wire.foreign_sends(frame)
        await station.says([("peer", vip, FOREIGN)])
        await asyncio.sleep(0.05)
        assert len(station.told) == 1
        assert station.watch.conflicting(vip) is None


async def test_own_frames_never_count(wire):
    station = Station(wire.link, held={VIP, VIP6})
    announcing = PacketSocket(wire.link)
    async with station.running():
        for frames, length in build_round(MAC, [VIP, VIP6]):
            announcing.send(frames, length)
        # Sent by this host with a MAC that it does not know as its own.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((wire.name, 0))
            sender.send(bytes(arp_claim(VIP, bytes.fromhex("020000000055"))))
            sender.send(bytes(na_claim(VIP6, bytes.fromhex("020000000055"))))
        # Reflected by a switch.
        wire.foreign_sends(arp_claim(VIP, MAC), na_claim(VIP6, MAC))
        await station.says_nothing()
        assert (await station.probe(Vip("192.0.2.8"), Vip("2001:db8::8")))[0] == {}
    announcing.close()


async def test_frames_of_another_vlan_or_for_other_hosts_do_not_count(wire):
    tagged = Ether(src=FOREIGN.hex(":"), dst=ALL) / Dot1Q(vlan=7) / arp_claim(VIP, FOREIGN)[ARP]
    unicast = Ether(src=FOREIGN.hex(":"), dst="02:00:00:00:00:77") / arp_claim(VIP, FOREIGN)[ARP]
    station = Station(wire.link, held={VIP})
    async with station.running():
        wire.foreign_sends(tagged, unicast)
        await station.says_nothing()
        wire.foreign_sends(arp_claim(VIP, FOREIGN))
        await station.says([("conflict", VIP, FOREIGN, wire.name), ("defend", VIP)])


async def test_claims_of_what_is_not_held_and_probes_of_what_is_are_nothing(wire):
    probe = Ether(src=FOREIGN.hex(":"), dst=ALL) / ARP(hwsrc=FOREIGN.hex(":"), psrc="0.0.0.0", pdst=VIP)
    station = Station(wire.link, held={VIP})
    async with station.running():
        wire.foreign_sends(arp_claim("192.0.2.8", FOREIGN), na_claim(VIP6, FOREIGN), probe)
        await station.says_nothing()
