"""Where an address may be held that is kept until the Service's new one is up: where the Service that it is kept for may have it."""

import msgspec
import pytest

from kvip.core.election.services import Scheme
from kvip.daemon.lingering import LINGER_S
from tests.unit.daemon.fake_ports import API, OTHER, VIP, WEB, marked, node, service
from tests.unit.daemon.house import House


def annotated(vip, notes):
    asked = service(vip)
    return msgspec.structs.replace(
        asked, metadata=msgspec.structs.replace(asked.metadata, annotations={**asked.metadata.annotations, **notes})
    )


def kept(house, notes=None):
    """The Service moved from VIP to OTHER, and OTHER is not up yet."""
    house.read(annotated(VIP, notes or {}))
    house.know(marked())
    house.publisher.announced(VIP, "eth0")
    house.read(annotated(OTHER, notes or {}))
    assert house.ledger.claimants(VIP)


@pytest.fixture
def house():
    return House(leases=Scheme())


def test_it_is_held_by_the_lease_of_its_service(house):
    kept(house)
    assert house.desire.leases(VIP) == house.desire.leases(OTHER) == ("default/kubevip-web",)


def test_it_is_held_on_the_nic_that_its_service_names(house):
    kept(house, {"kube-vip.io/serviceInterface": "eth0"})
    assert house.desire.nic_claims(VIP) == house.desire.nic_claims(OTHER) != []


def test_it_is_held_where_its_service_may_have_it(house):
    house.nodes.store["n1"] = node("n1")
    house.wires.node_changed("n1")
    kept(house, {"kvip.io/node-selector": "disk=ssd"})
    assert house.desire.eligible(VIP) is house.desire.eligible(OTHER) is False


def test_another_service_that_asks_for_it_decides_at_once(house):
    kept(house)
    house.read(service(VIP, key=API, uid="uid-2"))
    assert house.desire.leases(VIP) == ("default/kubevip-api",)


def test_nothing_of_it_is_left_when_it_goes(house):
    kept(house)
    house.clock.advance(LINGER_S)
    house.look(WEB)
    assert house.desire.leases(VIP) == ()
