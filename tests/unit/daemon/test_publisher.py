"""What Kubernetes is told: only what the kernel confirmed, once, and for the right Service."""

import pytest

from kvip.core.model import ServiceKey
from tests.unit.daemon.fake_ports import API, OTHER, THIRD, VIP, WEB, service
from tests.unit.daemon.house import House

STRANGER = b"\2\0\0\0\0\x99"


@pytest.fixture
def house():
    return House()


def read(house, *services):
    house.apply(*services)
    for each in services:
        house.desire.read(ServiceKey(f"{each.metadata.namespace}/{each.metadata.name}"))


# -- bound and announced -----------------------------------------------------------------------------------------------


def test_i7_nothing_is_said_before_the_first_frame_left(house):
    read(house, service(VIP))
    assert (house.status.written, house.events.posted) == ([], [])
    house.publisher.announced(VIP, "eth0")
    assert house.status.written == [("uid-1", [VIP])]
    assert house.events.told() == [("VIPBound", "uid-1")]


def test_every_service_that_shares_the_vip_is_told_once_however_often_it_is_announced(house):
    read(house, service(VIP), service(VIP, key=API, uid="uid-2"))
    for _ in range(3):
        house.publisher.announced(VIP, "eth0")
    assert sorted(house.events.told()) == [("VIPBound", "uid-1"), ("VIPBound", "uid-2")]


def test_a_service_that_asks_later_for_an_announced_vip_is_told_too(house):
    read(house, service(VIP))
    house.publisher.announced(VIP, "eth0")
    read(house, service(VIP, key=API, uid="uid-2"))
    assert house.events.told() == [("VIPBound", "uid-1"), ("VIPBound", "uid-2")]
    assert house.status.written == [("uid-1", [VIP]), ("uid-2", [VIP])]


def test_a_service_recreated_while_its_vip_is_announced_is_told_as_another(house):
    read(house, service(VIP))
    house.publisher.announced(VIP, "eth0")
    read(house, service(VIP, uid="uid-2"))
    assert house.events.told() == [("VIPBound", "uid-1"), ("VIPBound", "uid-2")]
    assert house.status.written[-1] == ("uid-2", [VIP])


def test_entries_of_others_stay_and_an_entry_that_is_there_is_not_written_again(house):
    read(house, service(VIP, shows=["198.51.100.1"]))
    house.publisher.announced(VIP, "eth0")
    assert house.status.written == [("uid-1", ["198.51.100.1", VIP])]
    read(house, service(VIP, shows=["198.51.100.1", VIP]))
    assert len(house.status.written) == 1


def test_an_entry_that_someone_removed_is_written_again_while_announced(house):
    read(house, service(VIP))
    house.publisher.announced(VIP, "eth0")
    read(house, service(VIP, version="2"))
    assert house.status.written == [("uid-1", [VIP])] * 2


@pytest.mark.parametrize("end", ["stopped", "stopped_all"])
def test_a_hand_over_a_fence_or_a_stop_removes_no_entry_and_a_new_burst_is_told_again(house, end):
    read(house, service(VIP))
    house.publisher.announced(VIP, "eth0")
    house.publisher.stopped(VIP) if end == "stopped" else house.publisher.stopped_all()
    house.status.written.clear()
    read(house, service(VIP, shows=[VIP]))
    assert house.status.written == []
    house.publisher.announced(VIP, "eth0")
    assert house.events.told() == [("VIPBound", "uid-1")] * 2


@pytest.mark.xfail(
    strict=True,
    reason="Publisher.service_changed takes the ledger's claims of the former UID for those of the Service that the cache holds by now",
)
def test_i7_a_recreated_service_is_not_given_its_predecessors_address_before_it_was_read(house):
    """The cache has the new Service already, the reconcile loop has not read it yet, and the announcer's first frame leaves."""
    read(house, service(VIP, uid="uid-1"))
    house.services.store[WEB] = service(OTHER, uid="uid-2")
    house.publisher.announced(VIP, "eth0")
    assert house.status.written == []


@pytest.mark.xfail(strict=True, reason="Publisher._tell_bound remembers a UID as told though it had no claim yet, so nothing was posted")
def test_a_recreated_service_is_told_of_its_vip_though_the_first_frame_left_before_it_was_read(house):
    read(house, service(VIP, uid="uid-1"))
    house.services.store[WEB] = service(VIP, uid="uid-2")
    house.publisher.announced(VIP, "eth0")
    house.desire.read(WEB)
    assert ("VIPBound", "uid-2") in house.events.told()


# -- removals ----------------------------------------------------------------------------------------------------------


def test_a_removal_is_remembered_until_its_status_entry_is_gone(house):
    read(house, service(VIP, OTHER, shows=[VIP, OTHER]))
    read(house, service(OTHER, shows=[VIP, OTHER], version="2"))
    read(house, service(OTHER, shows=[VIP, OTHER], version="3"))  # The write met a conflict: to be computed anew.
    assert house.status.written == [("uid-1", [OTHER])] * 2
    read(house, service(OTHER, shows=[OTHER], version="4"))
    assert len(house.status.written) == 2


def test_once_its_entry_is_gone_the_address_is_anybodys(house):
    """The Service goes over to another implementation, which keeps its address: two controllers that write without end."""
    read(house, service(VIP, shows=[VIP]))
    read(house, service(VIP, shows=[VIP], kind="ClusterIP", version="2"))
    read(house, service(VIP, shows=[], kind="ClusterIP", version="3"))
    house.status.written.clear()
    read(house, service(VIP, shows=[VIP], kind="ClusterIP", version="4"))
    assert house.status.written == []


@pytest.mark.xfail(strict=True, reason="Publisher.service_changed returns before it forgets, so a node that spoke for nobody removes another's entry later")
def test_a_node_that_did_not_speak_forgets_the_removal_too(house):
    house.elector.mute = {"uid-1"}
    read(house, service(VIP, shows=[VIP]))
    read(house, service(VIP, shows=[VIP], kind="ClusterIP", version="2"))
    read(house, service(VIP, shows=[], kind="ClusterIP", version="3"))
    house.elector.mute = set()
    read(house, service(VIP, shows=[VIP], kind="ClusterIP", version="4"))
    assert house.status.written == []


def test_a_removal_is_made_by_the_node_that_speaks_even_when_it_began_to_later(house):
    house.elector.mute = {"uid-1"}
    read(house, service(VIP, OTHER, shows=[VIP, OTHER]))
    read(house, service(OTHER, shows=[VIP, OTHER], version="2"))
    assert house.status.written == []
    house.elector.mute = set()
    read(house, service(OTHER, shows=[VIP, OTHER], version="2"))
    assert house.status.written == [("uid-1", [OTHER])]


def test_the_holder_of_one_vip_removes_the_others_though_it_does_not_speak(house):
    house.elector.mute = {"uid-1"}
    read(house, service(VIP, OTHER))
    house.publisher.announced(OTHER, "eth0")
    read(house, service(OTHER, shows=[VIP, OTHER], version="2"))
    assert house.status.written[-1] == ("uid-1", [OTHER])


def test_what_is_asked_for_again_is_not_removed(house):
    read(house, service(VIP, OTHER, shows=[VIP, OTHER]))
    house.elector.mute = {"uid-1"}
    read(house, service(OTHER, shows=[VIP, OTHER]))
    house.elector.mute = set()
    read(house, service(VIP, OTHER, shows=[VIP, OTHER]))
    assert house.status.written == []


def test_removals_of_a_service_that_is_gone_do_not_concern_its_successor(house):
    read(house, service(VIP, THIRD))
    read(house, service(THIRD))
    house.delete()
    house.desire.read(WEB)
    read(house, service(THIRD, uid="uid-2", shows=[VIP, THIRD]))
    assert house.status.written == []


def test_a_service_that_is_gone_is_not_written(house):
    read(house, service(VIP))
    del house.services.store[WEB]
    house.publisher.announced(VIP, "eth0")
    assert (house.status.written, house.events.posted) == ([], [])


# -- the other Events --------------------------------------------------------------------------------------------------


def test_former_claimants_hear_of_release_and_sweep(house):
    read(house, service(VIP), service(VIP, key=API, uid="uid-2"))
    former = tuple(house.ledger.claimants(VIP).values())
    house.publisher.released(VIP, former, reason="no Service asks for it")
    house.publisher.swept(OTHER, former)
    assert house.events.told() == [("VIPReleased", "uid-1"), ("VIPReleased", "uid-2"), ("VIPSwept", "uid-1"), ("VIPSwept", "uid-2")]
    assert house.events.warnings == set()
    assert all("n1" in message for _, _, message in house.events.posted)


def test_a_foreign_host_is_named_by_its_mac_and_what_follows_depends_on_who_was_first(house):
    read(house, service(VIP))
    house.publisher.foreign_host(VIP, STRANGER, nic="eth0")
    house.publisher.announced(VIP, "eth0")
    house.publisher.foreign_host(VIP, STRANGER, nic="eth0")
    before, _, holding = (message for _, _, message in house.events.posted)
    assert "02:00:00:00:00:99" in before
    assert "not bound" in before
    assert "defend" in holding
    assert house.events.warnings == {"VIPConflict"}
