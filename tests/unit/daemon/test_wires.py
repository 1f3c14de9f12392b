"""Who hears what from whom: every call is complete when it returns, also when a part of it fails."""

from types import SimpleNamespace

import pytest

from kvip.core.model import Vip
from kvip.core.objects import Lease, ObjectMeta
from tests.unit.daemon.fake_ports import API, IPVS0, OTHER, VIP, WEB, endpoints, marked, node, service, unmarked
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    house = House()
    house.heard = []
    house.reconcile.on_service = house.heard.append
    house.marks = []
    house.reconcile.on_permit_changed = lambda: house.marks.append("permits")
    house.reconcile.on_all_services = lambda: house.marks.append("all services")
    return house


# -- the election ------------------------------------------------------------------------------------------------------


def test_f2_only_a_renewal_that_armed_the_switch_confirms_what_a_peer_claimed(house):
    confirmed = []
    house.disputes.renewed = lambda: confirmed.append(house.clock.now())
    assert house.wires.renewed(1003.0) == ""
    house.clock.advance(4)
    assert house.wires.renewed(1009.0)
    assert confirmed == [1000.0]


def test_r2_a_fence_is_complete_when_it_returns(house):
    house.read(service(VIP))
    house.know(marked())
    house.outcome.announced(VIP, 1000.0)
    house.wires.fenced("renew deadline")
    assert house.kernel.ours() == set()
    assert house.renewals == [1000.0]
    assert house.marks == ["permits"]
    house.status.written.clear()
    house.publisher.service_changed(WEB)
    assert house.status.written == []


async def test_a_fence_whose_withdrawal_fails_still_forgets_and_has_everything_read_anew(house):
    house.read(service(VIP))
    house.outcome.announced(VIP, 1000.0)

    def fail():
        raise RuntimeError("no kernel")

    house.executor.fence = fail
    with pytest.raises(RuntimeError):
        house.wires.fenced("renew deadline")
    assert house.renewals == [1000.0]
    assert house.marks == ["permits"]
    house.publisher.service_changed(WEB)
    assert len(house.status.written) == 1
    await house.upkeep.refresh()
    assert house.kernel.dumps == 1


def test_before_there_is_an_election_nothing_is_said(house):
    house.elector = None
    assert not house.wires.speaks("uid-1")
    house.wires.demand_changed([VIP])
    house.wires.lease_changed("kube-system/svcs")
    house.wires.leases_complete()
    house.switch.flush()
    house.wires.check_rules()
    assert house.switch.there


def test_a_lease_is_passed_on_by_its_name_with_what_the_cache_holds(house):
    lease = Lease(metadata=ObjectMeta(name="svcs"))
    house.caches.leases = SimpleNamespace(store={"kube-system/svcs": lease})
    heard = []
    house.elector.lease_changed = lambda name, found: heard.append((name, found))
    house.wires.lease_changed("kube-system/svcs")
    house.caches.leases.store = {}
    house.wires.lease_changed("kube-system/svcs")
    assert heard == [("kube-system/svcs", lease), ("kube-system/svcs", None)]


def test_k7_rules_that_cannot_be_put_back_are_a_fence(house):
    house.read(service(VIP))
    house.know(marked())
    house.switch.flush()
    house.switch.fails = {"install"}
    house.wires.check_rules()
    assert house.elector.fences == ["the switch cannot be put back"]
    assert house.kernel.ours() == set()


# -- the ticks ---------------------------------------------------------------------------------------------------------


def test_k6_vips_that_kube_proxy_made_local_go_to_the_others_while_a_service_of_ours_asks_for_them(house):
    house.facts.links[IPVS0.index] = IPVS0
    foreign = Vip("192.0.2.50")
    house.know(*(unmarked(vip, index=IPVS0.index, prefix=32) for vip in (VIP, OTHER, foreign)))
    house.read(service(VIP), service(OTHER, key=API, uid="uid-2"))
    house.wires.tick()
    assert house.switch.other == {VIP, OTHER}
    house.delete(WEB)
    house.look(WEB)
    house.wires.tick()
    assert house.switch.other == {OTHER}
    house.facts.note_gone(unmarked(OTHER, index=IPVS0.index, prefix=32))
    house.wires.tick()
    assert house.switch.other == set()


@pytest.mark.parametrize("strict_arp", [False, True])
def test_k6_an_event_on_the_node_names_what_kube_proxy_made_local_where_the_kernel_would_answer_for_it(house, strict_arp):
    house.strict_arp = strict_arp
    house.facts.links[IPVS0.index] = IPVS0
    house.know(unmarked(VIP, index=IPVS0.index, prefix=32))
    house.read(service(VIP))
    for _ in range(3):
        house.wires.tick()
    assert house.events.told() == ([] if strict_arp else [("StrictARPMissing", "node")])


def test_g5_what_is_in_the_way_is_told_once_on_the_node(house):
    house.elector.blocked = "mode global holds"
    for _ in range(3):
        house.wires.tick()
    house.elector.blocked = ""
    house.wires.tick()
    assert house.events.told() == [("ElectionBlocked", "node")]


def test_k6_the_others_come_back_with_the_rules(house):
    house.facts.links[IPVS0.index] = IPVS0
    house.know(unmarked(VIP, index=IPVS0.index, prefix=32))
    house.read(service(VIP))
    house.wires.tick()
    house.switch.flush()
    house.wires.check_rules()
    assert house.switch.other == {VIP}


def test_a_tick_that_changes_nothing_touches_nothing(house):
    house.read(service(VIP))
    house.log.clear()
    for _ in range(10):
        house.wires.tick()
    assert (house.log, house.elector.heard_of, house.events.posted, house.status.written) == ([], [], [], [])


# -- the caches --------------------------------------------------------------------------------------------------------


def test_a_slice_has_the_services_read_that_it_belongs_and_belonged_to(house):
    house.slices.store["default/x"] = endpoints("x", "n1")
    house.wires.slice_changed("default/x")
    house.slices.store["default/x"] = endpoints("x", "n1", of="api")
    house.wires.slice_changed("default/x")
    assert house.heard[0] == WEB
    assert set(house.heard[1:]) == {WEB, API}


def test_a_node_has_every_service_looked_at_only_when_its_addresses_changed(house):
    house.read(service(VIP))
    house.nodes.store["n2"] = node("n2", "192.0.2.20")
    house.wires.node_changed("n2")
    assert house.marks == ["all services"]
    house.nodes.store["n2"] = node("n2", "192.0.2.20")
    house.wires.node_changed("n2")
    assert house.marks == ["all services"]
