"""Services that share a VIP: whose ports are served, and what the others hear."""

import asyncio

import pytest
from msgspec.structs import replace

from tests.unit.daemon.fake_ports import API, OTHER, VIP, WEB, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.services import messages, older, uids, younger


@pytest.fixture
def house():
    return House()


@pytest.mark.parametrize("first", ["older", "younger"])
def test_the_younger_of_two_on_one_port_is_refused_whoever_was_read_first(house, first):
    pair = [older(80), younger(80, 443)]
    house.read(*(pair if first == "older" else reversed(pair)))
    assert uids(house) == {"uid-1"}
    ((uid, message),) = messages(house, "PortConflict")
    assert uid == "uid-2"
    assert "80/TCP" in message
    assert WEB in message
    assert VIP in message
    assert house.events.warnings == {"PortConflict"}


def test_the_younger_is_served_when_the_older_goes(house):
    house.read(older(80), younger(80))
    house.delete(WEB)
    assert house.look(WEB) == {VIP}
    assert uids(house) == {"uid-2"}
    assert house.desire.claiming.former_claimants(VIP) == ()


def test_the_younger_is_served_when_the_older_frees_the_port_and_hears_of_it_again_when_it_comes_back(house):
    house.read(older(80), younger(80))
    house.read(older(81))
    assert uids(house) == {"uid-1", "uid-2"}
    house.read(older(80))
    assert uids(house) == {"uid-1"}
    assert len(messages(house, "PortConflict")) == 2


def test_who_loses_a_vip_to_an_older_service_loses_its_status_entry(house):
    house.read(younger(80, shows=[VIP]))
    house.publisher.announced(VIP, "eth0")
    house.status.written.clear()
    house.read(older(80))
    assert uids(house) == {"uid-1"}
    assert ("uid-2", []) in house.status.written
    assert ("uid-1", [VIP]) in house.status.written


def test_a_sibling_that_comes_or_goes_changes_nothing_for_the_vip(house):
    house.know(marked())
    house.read(older(80))
    house.read(younger(81))
    assert uids(house) == {"uid-1", "uid-2"}
    house.delete(API)
    house.look(API)
    assert house.desire.claiming.former_claimants(VIP) == ()
    assert uids(house) == {"uid-1"}


def test_one_service_that_cannot_be_read_holds_up_no_other(house, caplog):
    broken = replace(service(VIP), spec=None)

    async def story():
        house.apply(broken, service(OTHER, key=API, uid="uid-2"))
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == {OTHER}

    house.play(story)
    assert [record.service for record in caplog.records if record.levelname == "ERROR"] == [WEB]
