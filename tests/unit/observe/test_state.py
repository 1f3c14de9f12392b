"""The state view says what the kernel confirmed, and is one JSON document."""

import ipaddress
import json
from datetime import UTC, datetime

import msgspec
import pytest

from kvip.core.desired import Refused, Wish
from kvip.core.facts import Facts
from kvip.core.ledger import Ledger
from kvip.core.model import MARK_PROTO, Address, Link
from kvip.core.sharing import Clash
from kvip.observe.standing import VipFacts
from kvip.observe.state import Header, Instants, row, unmet, unready, view

VIP, VIP6, OTHER = "192.0.2.7", "2001:db8::7", "192.0.2.30"
NOW = 1000.0
HEADER = Header(
    version="0", node="n1", election="claims", incarnation="n1_a", valid_until="", blocked="", fencing="switch", nics=("eth0",), synced={}
)


def wish(name, *vips):
    return Wish(key=f"default/{name}", uid=f"uid-{name}", generation=3, addresses=vips)


def seen(*addresses, claims=(), permit=None, holder="", announced=None, mac=None):
    ledger, facts = Ledger(), Facts()
    facts.links[2] = Link(index=2, name="eth0", mac=b"\2" * 6, up=True, carrier=True)
    for one in claims:
        ledger.claim(one, since="2026-01-01T00:00:00Z")
    facts.replace_all(addresses, now=NOW)
    instants = Instants(now=NOW, wall=datetime(2026, 1, 1, 12, tzinfo=UTC))
    known = [
        VipFacts(
            vip=vip,
            node="n1",
            claimants=tuple(ledger.claimants(vip).values()),
            permit_until=permit,
            holder=holder,
            elsewhere=bool(holder) and permit is None,
            bound=facts.bound(vip),
            announced_at=announced,
            mac=mac,
            links=facts.links,
        )
        for vip in {*ledger.vips(), *facts.marked()}
    ]
    return view(HEADER, [row(each, instants) for each in known], instants)


def address(vip, *, marked=True, valid_s=60):
    prefix = ipaddress.ip_address(vip).max_prefixlen
    return Address(ip=vip, prefix_len=prefix, index=2, proto=MARK_PROTO if marked else 0, valid_s=valid_s)


def test_a_bound_vip_has_its_services_and_instants():
    (one,) = seen(address(VIP), claims=[wish("web", VIP), wish("db", VIP)], permit=NOW + 2.5, holder="n1_a", announced=NOW - 60).vips
    assert [(service.service, service.uid) for service in one.services] == [("default/web", "uid-web"), ("default/db", "uid-db")]
    assert (one.bound, one.nic, one.holder, one.conflict) == (True, "eth0", "n1_a", "")
    assert (one.permit_until, one.announced_since) == ("2026-01-01T12:00:02.500Z", "2026-01-01T11:59:00.000Z")
    assert one.expires_at == "2026-01-01T12:01:00.000Z"
    assert (one.state, one.reason, one.node, one.since) == ("announced", "", "n1", one.announced_since)


def test_a_vip_held_elsewhere_is_not_bound_here():
    (one,) = seen(claims=[wish("web", VIP)], holder="n2_b").vips
    assert (one.bound, one.nic, one.holder, one.permit_until, one.announced_since) == (False, "", "n2_b", "", "")
    assert (one.state, one.reason, one.node) == ("held-elsewhere", "n2 holds it", "n2")


def test_a_marked_address_without_a_service_is_shown():
    (one,) = seen(address(VIP)).vips
    assert (one.vip, one.bound, one.services, one.state) == (VIP, True, (), "releasing")


def test_an_address_that_is_not_kvips_is_a_conflict_and_not_bound():
    (one,) = seen(address(VIP, marked=False), claims=[wish("web", VIP)]).vips
    assert (one.bound, one.nic, one.conflict) == (False, "eth0", "without kvip's mark on eth0")
    assert one.state == "conflict"


def test_another_host_is_named_by_its_mac():
    (one,) = seen(claims=[wish("web", VIP)], mac=b"\2\0\0\0\0\x0b").vips
    assert one.conflict == "02:00:00:00:00:0b"


def test_order_is_numeric_ipv4_first():
    assert [one.vip for one in seen(claims=[wish("web", VIP6, OTHER, VIP)]).vips] == [VIP, OTHER, VIP6]


def test_it_is_one_json_document():
    document = json.loads(msgspec.json.encode(seen(address(VIP), claims=[wish("web", VIP)])))
    assert document["at"] == "2026-01-01T12:00:00.000Z"
    assert document["daemon"]["node"] == "n1"
    assert document["vips"][0]["services"][0]["uid"] == "uid-web"


def test_what_a_service_asks_for_and_does_not_get_is_shown_with_the_reason():
    asks = Wish(
        key="default/web", uid="u", addresses=(VIP,), listed=frozenset({VIP}), refused=(Refused(value="x" * 90, fault="is no address"),)
    )
    invalid, clash = unmet(asks, {VIP: Clash(older="default/old", port=("TCP", 80))})
    assert (invalid.state, invalid.reason, len(invalid.vip)) == ("invalid", "is no address", 64)
    assert (clash.state, clash.vip, clash.reason) == ("conflict", VIP, "the older Service default/old has port 80/TCP of it")
    (nothing,) = unmet(Wish(key="default/web", uid="u"), {})
    assert (nothing.vip, nothing.state, nothing.reason) == ("", "pending", "the Service names no address")
    instants = Instants(now=NOW, wall=datetime(2026, 1, 1, tzinfo=UTC))
    assert [one.vip for one in view(HEADER, [invalid, nothing, clash], instants).vips] == [VIP, "", invalid.vip]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"observed": False}, "API server does not answer"),
        ({"synced": {"nodes": False, "services": True}}, "nodes were not read"),
        ({"known": False}, "not known yet what every Service asks for"),
        ({"blocked": "mode global holds"}, "mode global holds"),
        ({"banned": "its Node is cordoned"}, "its Node is cordoned"),
        ({}, "heartbeat is not confirmed"),
        ({"valid_s": 2.0}, ""),
        ({"election": "global"}, ""),
    ],
)
def test_why_a_node_holds_nothing_at_all(fields, word):
    said = unready(msgspec.structs.replace(HEADER, **fields))
    assert word in said
    assert bool(word) == bool(said)
