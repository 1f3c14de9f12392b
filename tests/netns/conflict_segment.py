"""One wire with a foreign host on it, and a station that watches it for address conflicts: for tests."""

import asyncio
import contextlib
import itertools
import socket
import time

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from kvip.clock import SystemClock
from kvip.core.model import IfIndex, Link, Vip
from kvip.daemon.conflicts import ConflictWatch
from kvip.daemon.supervision import Heartbeats
from kvip.kernel.listen import ClaimListener

VIP, VIP6 = Vip("192.0.2.7"), Vip("2001:db8::7")
MAC, FOREIGN = bytes.fromhex("020000000001"), bytes.fromhex("020000000099")
ALL = "ff:ff:ff:ff:ff:ff"
_numbers = itertools.count()


class Segment:
    """This host's NIC, and a foreign host on the other end of the wire."""

    def __init__(self, run_ip, space):
        self.run_ip = run_ip
        self.space = space
        self.name = f"kvcw{next(_numbers)}"
        run_ip("link", "add", self.name, "address", MAC.hex(":"), "type", "veth", "peer", "name", "eth0", "netns", space.path)
        run_ip("link", "set", self.name, "addrgenmode", "none")
        space.ip_batch([f"link set eth0 address {FOREIGN.hex(':')}", "link set eth0 addrgenmode none", "link set eth0 up"])
        run_ip("link", "set", self.name, "up")
        self.link = Link(index=IfIndex(socket.if_nametoindex(self.name)), name=self.name, mac=MAC, up=True, carrier=True)
        index = space.call(lambda: socket.if_nametoindex("eth0"))
        self.foreign_link = Link(index=IfIndex(index), name="eth0", mac=FOREIGN, up=True, carrier=True)

    def foreign_has(self, *vips):
        self.space.ip_batch([f"addr add {vip}/{128 if ':' in vip else 32} dev eth0{' nodad' if ':' in vip else ''}" for vip in vips])

    def foreign_sends(self, *frames):
        with self.space.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("eth0", 0))
            for frame in frames:
                sender.send(bytes(frame))


class Station:
    """A ConflictWatch and what it said."""

    def __init__(self, link, *, held=(), peers=(), own=(), retry_s=30.0, listen=ClaimListener):
        self.link = link
        self.links = {link.index: link}
        self.held = set(held)
        self.told = []
        self.watch = ConflictWatch(
            clock=SystemClock(),
            heartbeats=Heartbeats(SystemClock()),
            links=self.links,
            nics=lambda: (link.name,),
            belongs=lambda vip, index: True,
            own_macs=lambda: {link.mac, *own},
            peer_macs=lambda: peers,
            held=lambda vip: vip in self.held,
            wanted=lambda vip: True,
            on_conflict=lambda vip, mac, nic: self.told.append(("conflict", vip, mac, nic)),
            on_ended=lambda vip: self.told.append(("ended", vip)),
            on_peer_claim=lambda vip, mac: self.told.append(("peer", vip, mac)),
            defend=lambda vip: self.told.append(("defend", vip)),
            retry_s=retry_s,
            listen=listen,
        )

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.watch.run())
        await asyncio.sleep(0)
        try:
            yield self
        finally:
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(result, asyncio.CancelledError), result

    async def probe(self, *vips):
        started = time.monotonic()
        answers = await self.watch.probe(vips, self.link)
        return answers, time.monotonic() - started

    async def says(self, expected, *, within_s=2.0):
        async with asyncio.timeout(within_s):
            while len(self.told) < len(expected):
                await asyncio.sleep(0.005)
        assert sorted(self.told) == sorted(expected)

    async def says_nothing(self, *, for_s=0.1):
        await asyncio.sleep(for_s)
        assert self.told == []


def arp_claim(ip, mac, *, op=1):
    return Ether(src=mac.hex(":"), dst=ALL) / ARP(op=op, hwsrc=mac.hex(":"), psrc=ip, hwdst="00:00:00:00:00:00", pdst=ip)


def na_claim(ip, mac):
    text = mac.hex(":")
    address = IPv6(src=ip, dst="ff02::1", hlim=255)
    return Ether(src=text, dst="33:33:00:00:00:01") / address / ICMPv6ND_NA(tgt=ip, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=text)
