"""What is asked of this node: the ledger's content, Service by Service, and what makes a VIP this node's to serve."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvip.core.model import Vip
from tests.unit.daemon.fake_ports import API, IPVS0, OTHER, THIRD, VIP, WEB, endpoints, marked, node, service, unmarked
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    return House()


def read_gone(house, key=WEB):
    house.delete(key)
    return house.look(key)


def uids(house, vip=VIP):
    return set(house.ledger.claimants(vip))


# -- claims follow UIDs ------------------------------------------------------------------------------------------------


def test_a_service_deleted_and_recreated_under_another_uid_is_another_claimant(house):
    assert house.read(service(VIP, uid="uid-1")) == {VIP}
    assert read_gone(house) == {VIP}
    assert uids(house) == set()
    assert house.read(service(VIP, uid="uid-2")) == {VIP}
    assert uids(house) == {"uid-2"}


def test_a_recreation_whose_deletion_was_never_seen_replaces_the_claimant(house):
    house.read(service(VIP, uid="uid-1"))
    assert house.read(service(VIP, uid="uid-2")) == {VIP}
    assert uids(house) == {"uid-2"}
    assert house.ledger_changes


def test_a_recreation_at_another_address_gives_up_the_old_one(house):
    house.read(service(VIP, uid="uid-1"))
    house.know(marked())
    assert house.read(service(OTHER, uid="uid-2")) == {VIP, OTHER}
    assert (uids(house), uids(house, OTHER)) == (set(), {"uid-2"})
    assert [claimant.uid for claimant in house.desire.claiming.former_claimants(VIP)] == ["uid-1"]


def test_the_last_of_two_services_takes_their_common_vip_down(house):
    house.know(marked())
    house.read(service(VIP), service(VIP, key=API, uid="uid-2"))
    assert read_gone(house) == {VIP}
    assert uids(house) == {"uid-2"}
    assert house.desire.claiming.former_claimants(VIP) == ()
    read_gone(house, API)
    assert [claimant.uid for claimant in house.desire.claiming.former_claimants(VIP)] == ["uid-2"]


def test_former_claimants_are_told_once_and_forgotten_when_the_vip_is_asked_for_again(house):
    house.know(marked())
    house.read(service(VIP))
    read_gone(house)
    assert house.desire.claiming.former_claimants(VIP)
    assert house.desire.claiming.former_claimants(VIP) == ()
    house.read(service(VIP))
    read_gone(house)
    house.read(service(VIP, key=API, uid="uid-2"))
    assert house.desire.claiming.former_claimants(VIP) == ()


def test_a_vip_that_was_never_bound_here_has_no_former_claimants(house):
    house.read(service(VIP))
    read_gone(house)
    assert house.desire.claiming.former_claimants(VIP) == ()


def test_reading_what_did_not_change_changes_no_claim_but_looks_again(house):
    house.read(service(VIP))
    house.ledger_changes.clear()
    assert house.read(service(VIP)) == {VIP}
    assert house.ledger_changes == []


def test_a_service_that_is_known_by_its_claim_alone_is_read_too(house):
    house.read(service(VIP))
    del house.services.store[WEB]
    assert house.desire.known_services() == {WEB}
    house.look(WEB)
    assert house.desire.known_services() == set()


LIVES = st.lists(st.tuples(st.sampled_from([WEB, API]), st.sampled_from([None, 1, 2, 3]), st.sets(st.sampled_from([VIP, OTHER, THIRD]))))


@settings(max_examples=settings.default.max_examples * 3 // 5)
@given(LIVES)
def test_after_any_life_the_ledger_is_what_the_existing_services_ask_for(lives):
    house = House()
    for key, uid, vips in lives:
        before = {vip: uids(house, vip) for vip in (VIP, OTHER, THIRD)}
        if uid is None:
            house.services.store.pop(key, None)
        else:
            house.services.store[key] = service(*sorted(vips), key=key, uid=f"{key}-{uid}")
        touched = house.look(key)
        after = {vip: uids(house, vip) for vip in (VIP, OTHER, THIRD)}
        assert {vip for vip in after if after[vip] != before[vip]} <= touched
    for vip in (VIP, OTHER, THIRD):
        asking = {each.metadata.uid for each in house.services.store.values() if vip in str(each.metadata.annotations)}
        assert uids(house, vip) == asking


# -- what is known -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["services", "nodes"])
def test_i5_nothing_is_known_until_services_and_nodes_are_current(house, cache):
    assert house.desire.synced
    getattr(house, cache).current = False
    assert not house.desire.synced
    assert house.desire.shown(VIP)
    assert house.demand.able(VIP) is None


def test_a_status_that_shows_the_vip_had_a_holder_before(house):
    house.read(service(VIP, shows=[OTHER]))
    assert not house.desire.shown(VIP)
    house.read(service(VIP, shows=[OTHER, VIP]))
    assert house.desire.shown(VIP)


# -- addresses that are taken ------------------------------------------------------------------------------------------


def test_an_address_of_a_node_or_of_this_host_or_a_gateway_or_the_api_server_is_refused_with_a_reason(house):
    house.nodes.store["n2"] = node("n2", "192.0.2.20")
    house.know(unmarked(Vip("192.0.2.21")))
    house.reserved.gateways = frozenset({Vip("192.0.2.22")})
    house.reserved.api_servers = frozenset({Vip("192.0.2.23")})
    assert house.desire.surroundings_changed()
    assert not house.desire.surroundings_changed()
    for vip in ("192.0.2.20", "192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.255"):
        house.events.posted.clear()
        assert house.read(service(vip, VIP)) == {VIP}
        assert house.events.told() == [("InvalidAddress", "uid-1")]
        assert vip in house.events.posted[0][2]


def test_k6_what_kube_proxy_made_local_is_no_address_of_this_host(house):
    house.facts.links[IPVS0.index] = IPVS0
    house.know(unmarked(VIP, index=IPVS0.index, prefix=32))
    assert not house.desire.surroundings_changed()
    assert house.read(service(VIP)) == {VIP}
    assert house.events.posted == []
    assert house.demand.able(VIP)


def test_a_problem_is_told_once_and_again_when_it_changes_or_the_service_is_another(house):
    house.read(service("127.0.0.1"))
    house.read(service("127.0.0.1", version="2"))
    assert len(house.events.posted) == 1
    house.read(service("127.0.0.2"))
    house.read(service("127.0.0.2", uid="uid-2"))
    assert house.events.told() == [("InvalidAddress", "uid-1")] * 2 + [("InvalidAddress", "uid-2")]


def test_a_problem_is_told_again_when_this_node_begins_to_speak(house):
    house.elector.mute = {"uid-1"}
    house.read(service("127.0.0.1"), service(VIP, key=API, uid="uid-2"))
    assert house.events.posted == []
    house.elector.mute = set()
    house.wires.tick()
    house.wires.tick()
    assert house.events.told() == [("InvalidAddress", "uid-1")]
    assert house.events.warnings == {"InvalidAddress"}


def test_a_problem_is_not_told_while_the_services_are_not_known(house):
    house.elector.mute = {"uid-1"}
    house.read(service("127.0.0.1"))
    house.elector.mute = set()
    house.services.current = False
    house.wires.tick()
    assert house.events.posted == []


@pytest.mark.parametrize("end", ["deleted", "recreated", "mended"])
def test_a_problem_that_is_over_is_not_told_later(house, end):
    house.elector.mute = {"uid-1"}
    house.read(service("127.0.0.1"))
    if end == "deleted":
        read_gone(house)
    else:
        house.read(service(VIP, uid="uid-1" if end == "mended" else "uid-2"))
    house.elector.mute = set()
    house.wires.tick()
    assert house.events.posted == []


# -- externalTrafficPolicy: Local --------------------------------------------------------------------------------------


def slices(house, *pieces):
    for piece in pieces:
        key = f"{piece.metadata.namespace}/{piece.metadata.name}"
        house.slices.store[key] = piece
        house.desire.whereabouts.slice_changed(key)


def test_policy_local_makes_a_vip_eligible_only_where_an_endpoint_is(house):
    house.read(service(VIP, local=True))
    assert house.desire.eligible(VIP) is False
    slices(house, endpoints("web-a", "n2"))
    assert house.desire.eligible(VIP) is False
    slices(house, endpoints("web-b", "n1"))
    assert house.desire.eligible(VIP) is True
    slices(house, endpoints("web-b", "n1", ready=False))
    assert house.desire.eligible(VIP) is False


def test_eligibility_is_unknown_until_the_slices_are_complete(house):
    house.read(service(VIP, local=True), service(OTHER, key=API, uid="uid-2"))
    house.slices.synced = False
    assert house.desire.eligible(VIP) is None
    assert house.desire.eligible(OTHER) is True


def test_one_claimant_that_any_node_serves_makes_the_common_vip_eligible(house):
    house.read(service(VIP, local=True), service(VIP, key=API, uid="uid-2"))
    assert house.desire.eligible(VIP) is True
    read_gone(house, API)
    assert house.desire.eligible(VIP) is False


def test_slices_belong_to_the_service_that_their_label_names_in_their_namespace(house):
    house.read(service(VIP, local=True))
    slices(house, endpoints("web-a", "n1", of="web-2"), endpoints("web-b", "n1", namespace="kube-system"), endpoints("web-c", "n1", of=""))
    assert house.desire.eligible(VIP) is False


def test_a_slice_that_moves_serves_its_former_service_no_more(house):
    house.read(service(VIP, local=True))
    slices(house, endpoints("x", "n1"))
    assert house.desire.eligible(VIP) is True
    slices(house, endpoints("x", "n1", of="api"))
    assert house.desire.eligible(VIP) is False


def test_a_slice_that_moves_or_goes_concerns_its_former_service_too(house):
    house.slices.store["default/x"] = endpoints("x", "n1")
    assert house.desire.whereabouts.slice_changed("default/x") == {WEB}
    house.slices.store["default/x"] = endpoints("x", "n1", of="api")
    assert house.desire.whereabouts.slice_changed("default/x") == {WEB, API}
    del house.slices.store["default/x"]
    assert house.desire.whereabouts.slice_changed("default/x") == {API}
    assert house.desire.whereabouts.slice_changed("default/x") == set()


# -- status that is ours to remove -------------------------------------------------------------------------------------


def test_an_address_that_the_service_no_longer_asks_for_leaves_its_status(house):
    house.read(service(VIP, OTHER, shows=[VIP, OTHER]))
    assert house.status.written == []
    house.read(service(OTHER, shows=[VIP, OTHER]))
    assert house.status.written == [("uid-1", [OTHER])]


def test_what_the_journal_remembers_and_nobody_asks_for_leaves_the_status(house):
    house.read(service(VIP, OTHER))
    claims = {vip: tuple(house.ledger.claimants(vip).values()) for vip in (VIP, OTHER)}
    later = House()
    later.desire.remember(claims)
    later.read(service(OTHER, shows=[VIP, OTHER]))
    assert later.status.written == [("uid-1", [OTHER])]


def test_a_recreated_services_status_is_not_judged_by_its_predecessors_claims(house):
    house.read(service(VIP, uid="uid-1", shows=[VIP]))
    house.read(service(OTHER, uid="uid-2", shows=[VIP]))
    assert house.status.written == []
