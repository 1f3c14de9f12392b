"""NICs in the kernel's own words: RTM_NEWLINK messages laid out as linux/if_link.h says."""

import struct

import pytest

from kvip.core.model import IfIndex, Link
from kvip.kernel.codec import RTM_NEWLINK
from kvip.kernel.links import decode_link

UP, NOARP, LOWER_UP = 0x1, 0x80, 0x10000
ADDRESS, IFNAME, MTU, LINK, MASTER, LINKINFO, NETNSID = 1, 3, 4, 5, 10, 18, 37
KIND, DATA = 1, 2
MAC = bytes.fromhex("020000000006")


def attribute(kind, payload):
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + bytes(-size % 4)


def number(kind, value):
    return attribute(kind, struct.pack("=i", value))


def info(kind, data=b""):
    return attribute(LINKINFO, attribute(KIND, kind.encode() + b"\0") + (attribute(DATA, data) if data else b""))


def heard(name, *attributes, index=7, arp_type=1, flags=UP | LOWER_UP, mac=MAC):
    body = struct.pack("=BxHiII", 0, arp_type, index, flags, 0)
    body += attribute(IFNAME, name.encode() + b"\0") + number(MTU, 1500) + attribute(ADDRESS, mac) + b"".join(attributes)
    return decode_link(struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, 0, 1, 0) + body)


def link(name, **more):
    return Link(**{"index": IfIndex(7), "name": name, "mac": MAC, "up": True, "carrier": True, **more})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (heard("eth0"), link("eth0")),
        (
            heard("eth0.200", number(LINK, 2), info("vlan", attribute(1, struct.pack("=H", 200)) + attribute(2, bytes(8)))),
            link("eth0.200", kind="vlan", parent=IfIndex(2), vlan_id=200),
        ),
        (
            heard("eth0.200", number(LINK, 2), number(NETNSID, 0), info("vlan", attribute(1, struct.pack("=H", 200)))),
            link("eth0.200", kind="vlan", vlan_id=200),
        ),
        (heard("mv0", number(LINK, 2), info("macvlan", number(1, 4))), link("mv0", kind="macvlan", parent=IfIndex(2))),
        (heard("bond0", info("bond", attribute(1, b"\4"))), link("bond0", kind="bond")),
        (heard("ens1f0", number(MASTER, 6)), link("ens1f0", master=IfIndex(6))),
        (heard("dummy0", info("dummy"), flags=UP | NOARP), link("dummy0", kind="dummy", carrier=False, arp=False)),
        (heard("ib0", mac=bytes(20), arp_type=32), link("ib0", mac=bytes(6), arp_type=32)),
    ],
)
def test_what_a_message_says_of_a_nic(found, expected):
    assert found == expected
