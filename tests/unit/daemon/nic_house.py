"""A house with two NICs, and Services that name the one they want."""

import msgspec

from kvip.core.model import Address, Vip
from kvip.daemon.unplaced import SETTLE_S
from tests.unit.daemon.fake_ports import ETH1, service

NIC = "kube-vip.io/serviceInterface"
FAR = Vip("198.51.100.7")


def wants(nic, *vips, **more):
    """A Service that names a NIC."""
    plain = service(*vips, **more)
    notes = {**plain.metadata.annotations, **({NIC: nic} if nic else {})}
    metadata = msgspec.structs.replace(plain.metadata, annotations=notes, creation_timestamp=more.get("uid", "uid-1"))
    return msgspec.structs.replace(plain, metadata=metadata)


def own(ip, link, prefix=24):
    return Address(ip=Vip(ip), prefix_len=prefix, index=link.index)


def link_comes(house, link):
    house.upkeep.on_link(link, link.index, True)


def link_goes(house, link):
    house.upkeep.on_link(None, link.index, False)


def two_nics(house):
    link_comes(house, ETH1)
    house.switch.nics.add("eth1")
    house.nics.settle()
    return house


def told(house, reason):
    return [message for why, _, message in house.events.posted if why == reason]


def bound(house):
    return {(address.ip, address.index) for address in house.kernel.table.values() if address.marked}


def settle(house, *vips):
    house.wires.demand_changed(vips)
    house.clock.advance(SETTLE_S)
    house.unplaced.tick()
