"""What Kubernetes is told: only what the kernel confirmed, once, and for the right Service."""

import pytest

from kvip.core.election.services import Scheme
from kvip.daemon.publisher import LATE_WRITE_S, SPEAKER_S
from kvip.daemon.rounds import PERIOD_S
from tests.unit.daemon.fake_ports import API, OTHER, THIRD, VIP, WEB, service
from tests.unit.daemon.house import House

STRANGER = b"\2\0\0\0\0\x99"


@pytest.fixture
def house():
    return House()


# -- bound and announced -----------------------------------------------------------------------------------------------


def test_i7_nothing_is_said_before_the_first_frame_left(house):
    house.read(service(VIP))
    assert (house.status.written, house.events.posted) == ([], [])
    house.publisher.announced(VIP, "eth0")
    assert house.status.written == [("uid-1", [VIP])]
    assert house.events.told() == [("VIPBound", "uid-1")]


def test_every_service_that_shares_the_vip_is_told_once_however_often_it_is_announced(house):
    house.read(service(VIP), service(VIP, key=API, uid="uid-2"))
    for _ in range(3):
        house.publisher.announced(VIP, "eth0")
    assert sorted(house.events.told()) == [("VIPBound", "uid-1"), ("VIPBound", "uid-2")]


def test_a_service_that_asks_later_for_an_announced_vip_is_told_too(house):
    house.read(service(VIP))
    house.publisher.announced(VIP, "eth0")
    house.read(service(VIP, key=API, uid="uid-2"))
    assert house.events.told() == [("VIPBound", "uid-1"), ("VIPBound", "uid-2")]
    assert house.status.written == [("uid-1", [VIP]), ("uid-2", [VIP])]


def test_i7_a_service_with_a_lease_of_its_own_is_told_only_when_the_vip_is_held_by_that_too():
    """Another node may have that Lease: then the address goes there, and was never held for this Service here."""
    house = House(leases=Scheme())
    house.elector.leases = {"default/kubevip-web"}
    house.read(service(VIP))
    house.publisher.announced(VIP, "eth0")
    house.read(service(VIP, key=API, uid="uid-2"))
    assert house.events.told() == [("VIPBound", "uid-1")]
    assert house.status.written == [("uid-1", [VIP])]
    house.elector.leases.add("default/kubevip-api")
    house.executor.regroup = lambda vip: ""
    assert house.wires.regrouped(VIP) == ""
    house.reconcile._read_services()
    assert house.events.told() == [("VIPBound", "uid-1"), ("VIPBound", "uid-2")]
    assert house.status.written[-1] == ("uid-2", [VIP])


def test_a_service_recreated_while_its_vip_is_announced_is_told_as_another(house):
    house.read(service(VIP))
    house.publisher.announced(VIP, "eth0")
    house.read(service(VIP, uid="uid-2"))
    assert house.events.told() == [("VIPBound", "uid-1"), ("VIPBound", "uid-2")]
    assert house.status.written[-1] == ("uid-2", [VIP])


def test_entries_of_others_stay_and_an_entry_that_is_there_is_not_written_again(house):
    house.read(service(VIP, shows=["198.51.100.1"]))
    house.publisher.announced(VIP, "eth0")
    assert house.status.written == [("uid-1", ["198.51.100.1", VIP])]
    house.read(service(VIP, shows=["198.51.100.1", VIP]))
    assert len(house.status.written) == 1


def test_an_entry_that_someone_removed_is_written_again_while_announced(house):
    house.read(service(VIP))
    house.publisher.announced(VIP, "eth0")
    house.read(service(VIP, version="2"))
    assert house.status.written == [("uid-1", [VIP])] * 2


@pytest.mark.parametrize("end", ["stopped", "stopped_all"])
def test_a_hand_over_a_fence_or_a_stop_removes_no_entry_and_a_new_burst_is_told_again(house, end):
    house.read(service(VIP))
    house.publisher.announced(VIP, "eth0")
    house.publisher.stopped(VIP) if end == "stopped" else house.publisher.stopped_all()
    house.status.written.clear()
    house.read(service(VIP, shows=[VIP]))
    assert house.status.written == []
    house.publisher.announced(VIP, "eth0")
    assert house.events.told() == [("VIPBound", "uid-1")] * 2


def test_i7_a_recreated_service_is_not_given_its_predecessors_address_before_it_was_read(house):
    """The cache has the new Service already, the reconcile loop has not read it yet, and the announcer's first frame leaves."""
    house.read(service(VIP, uid="uid-1"))
    house.services.store[WEB] = service(OTHER, uid="uid-2")
    house.publisher.announced(VIP, "eth0")
    assert house.status.written == []


def test_a_recreated_service_is_told_of_its_vip_though_the_first_frame_left_before_it_was_read(house):
    house.read(service(VIP, uid="uid-1"))
    house.services.store[WEB] = service(VIP, uid="uid-2")
    house.publisher.announced(VIP, "eth0")
    house.look(WEB)
    assert ("VIPBound", "uid-2") in house.events.told()


# -- removals ----------------------------------------------------------------------------------------------------------


def test_a_removal_is_remembered_until_its_status_entry_is_gone(house):
    house.read(service(VIP, OTHER, shows=[VIP, OTHER]))
    house.read(service(OTHER, shows=[VIP, OTHER], version="2"))
    house.read(service(OTHER, shows=[VIP, OTHER], version="3"))  # The write met a conflict: to be computed anew.
    assert house.status.written == [("uid-1", [OTHER])] * 2
    house.read(service(OTHER, shows=[OTHER], version="4"))
    assert len(house.status.written) == 2


def gone_over(house):
    """A Service goes over to another implementation, which keeps its address; its entry of kvip's is gone."""
    house.read(service(VIP, shows=[VIP]))
    house.read(service(VIP, shows=[VIP], kind="ClusterIP", version="2"))
    assert house.status.written == [("uid-1", [])]
    house.status.written.clear()


@pytest.mark.parametrize("read_meanwhile", [False, True])
def test_once_its_entry_is_gone_for_a_while_the_address_is_anybodys(house, read_meanwhile):
    gone_over(house)
    house.read(service(VIP, kind="ClusterIP", version="3"))
    for _ in range(10):
        house.clock.advance(LATE_WRITE_S / 8)
        if read_meanwhile:
            house.read(service(VIP, kind="ClusterIP", version="3"))
        house.wires.tick()
    house.read(service(VIP, shows=[VIP], kind="ClusterIP", version="4"))
    assert house.status.written == []


def test_two_controllers_do_not_write_against_each_other_without_end(house):
    gone_over(house)
    wrote = []
    for _ in range(200):
        house.status.written.clear()
        house.read(service(VIP, shows=[VIP], kind="ClusterIP"))
        wrote.append(bool(house.status.written))
        if house.status.written:
            house.read(service(VIP, kind="ClusterIP"))
        house.clock.advance(1)
    assert not any(wrote[-100:])


def test_a_late_write_that_shows_a_withdrawn_vip_is_undone(house):
    gone_over(house)
    house.read(service(VIP, kind="ClusterIP", version="3"))
    house.clock.advance(LATE_WRITE_S / 2)
    house.read(service(VIP, shows=[VIP], kind="ClusterIP", version="4"))
    assert house.status.written == [("uid-1", [])]


def test_a_node_that_did_not_speak_forgets_the_removal_too(house):
    house.elector.mute = {"uid-1"}
    house.read(service(VIP, shows=[VIP]))
    house.read(service(VIP, shows=[VIP], kind="ClusterIP", version="2"))
    house.clock.advance(LATE_WRITE_S + 1)
    house.read(service(VIP, shows=[], kind="ClusterIP", version="3"))
    house.elector.mute = set()
    house.read(service(VIP, shows=[VIP], kind="ClusterIP", version="4"))
    assert house.status.written == []


def test_a_removal_is_made_by_the_node_that_speaks_even_when_it_began_to_later(house):
    house.elector.mute = {"uid-1"}
    house.read(service(VIP, OTHER, shows=[VIP, OTHER]))
    house.read(service(OTHER, shows=[VIP, OTHER], version="2"))
    assert house.status.written == []
    house.elector.mute = set()
    house.wires.tick()
    assert house.status.written == [("uid-1", [OTHER])]


def test_a_removal_that_the_node_that_speaks_does_not_know_of_is_made_by_who_does(house):
    house.elector.mute = {"uid-1"}
    house.read(service(VIP, OTHER, shows=[VIP, OTHER]))
    house.read(service(OTHER, shows=[VIP, OTHER], version="2"))
    house.clock.advance(SPEAKER_S)
    house.wires.tick()
    assert house.status.written == []
    house.clock.advance(PERIOD_S)
    house.wires.tick()
    assert house.status.written == [("uid-1", [OTHER])]


def test_the_holder_of_one_vip_removes_the_others_though_it_does_not_speak(house):
    house.elector.mute = {"uid-1"}
    house.read(service(VIP, OTHER))
    house.publisher.announced(OTHER, "eth0")
    house.read(service(OTHER, shows=[VIP, OTHER], version="2"))
    assert house.status.written[-1] == ("uid-1", [OTHER])


def test_what_is_asked_for_again_is_not_removed(house):
    house.read(service(VIP, OTHER, shows=[VIP, OTHER]))
    house.elector.mute = {"uid-1"}
    house.read(service(OTHER, shows=[VIP, OTHER]))
    house.elector.mute = set()
    house.read(service(VIP, OTHER, shows=[VIP, OTHER]))
    assert house.status.written == []


def test_removals_of_a_service_that_is_gone_do_not_concern_its_successor(house):
    house.read(service(VIP, THIRD))
    house.read(service(THIRD))
    house.delete()
    house.look(WEB)
    house.read(service(THIRD, uid="uid-2", shows=[VIP, THIRD]))
    assert house.status.written == []


def test_a_service_that_is_gone_is_not_written(house):
    house.read(service(VIP))
    del house.services.store[WEB]
    house.publisher.announced(VIP, "eth0")
    assert (house.status.written, house.events.posted) == ([], [])


# -- the other Events --------------------------------------------------------------------------------------------------


def test_former_claimants_hear_of_release_and_sweep(house):
    house.read(service(VIP), service(VIP, key=API, uid="uid-2"))
    former = tuple(house.ledger.claimants(VIP).values())
    house.publisher.released(VIP, former, reason="no Service asks for it")
    house.publisher.swept(OTHER, former)
    assert house.events.told() == [("VIPReleased", "uid-1"), ("VIPReleased", "uid-2"), ("VIPSwept", "uid-1"), ("VIPSwept", "uid-2")]
    assert house.events.warnings == set()
    assert all("n1" in message for _, _, message in house.events.posted)


def test_a_foreign_host_is_named_by_its_mac_and_what_follows_depends_on_who_was_first(house):
    house.read(service(VIP))
    house.publisher.foreign_host(VIP, STRANGER, nic="eth0")
    house.publisher.announced(VIP, "eth0")
    house.publisher.foreign_host(VIP, STRANGER, nic="eth0")
    before, _, holding = (message for _, _, message in house.events.posted)
    assert "02:00:00:00:00:99" in before
    assert "not bound" in before
    assert "defend" in holding
    assert house.events.warnings == {"VIPConflict"}
