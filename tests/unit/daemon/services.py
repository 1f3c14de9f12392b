"""Services, slices and Nodes of which tests of the desire are made, and what the house then says."""

from msgspec.structs import replace

from kvip.core.objects import NodeSpec, ServicePort
from tests.unit.daemon.fake_ports import API, VIP, node, service


def with_ports(each, *ports, second=0):
    spec = replace(each.spec, ports=tuple(ServicePort(port=port) for port in ports))
    return replace(each, metadata=replace(each.metadata, creation_timestamp=f"2026-01-01T00:00:{second:02}Z"), spec=spec)


def older(*ports, **more):
    return with_ports(service(VIP, **more), *ports, second=1)


def younger(*ports, **more):
    return with_ports(service(VIP, key=API, uid="uid-2", **more), *ports, second=2)


def uids(house, vip=VIP):
    return set(house.ledger.claimants(vip))


def messages(house, reason):
    return [(uid, message) for told, uid, message in house.events.posted if told == reason]


def slices(house, *pieces):
    for piece in pieces:
        key = f"{piece.metadata.namespace}/{piece.metadata.name}"
        house.slices.store[key] = piece
        house.wires.slice_changed(key)


def annotated(key, text):
    asked = service(VIP)
    return replace(asked, metadata=replace(asked.metadata, annotations={**asked.metadata.annotations, key: text}))


def selecting(text):
    return annotated("kvip.io/node-selector", text)


def labelled(house, name, labels, **spec):
    house.nodes.store[name] = replace(
        node(name), metadata=replace(node(name).metadata, labels=labels), spec=NodeSpec(**spec) if spec else NodeSpec()
    )
    return house.desire.whereabouts.node_changed(name)
