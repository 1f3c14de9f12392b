"""Services that share a VIP, a VIP that moves, and where VIPs may be held: from the caches to the ledger and the Events."""

import asyncio

import msgspec
import pytest

from kvip.core.objects import ManagedFields, ManagedMeta, ManagedService, NodeSpec, ServicePort, Taint
from kvip.core.siting import EXCLUDE_LABEL, NodeRules
from kvip.daemon.lingering import LINGER_S
from tests.unit.daemon.fake_ports import API, OTHER, THIRD, VIP, WEB, endpoints, marked, node, service
from tests.unit.daemon.house import House

replace = msgspec.structs.replace


@pytest.fixture
def house():
    return House()


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


# -- ports -------------------------------------------------------------------------------------------------------------


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
    assert house.desire.former_claimants(VIP) == ()


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
    assert house.desire.former_claimants(VIP) == ()
    assert uids(house) == {"uid-1"}


# -- an address that is changed ----------------------------------------------------------------------------------------


def moved(house, *to, uid="uid-1", shows=()):
    house.read(service(VIP))
    house.know(marked())
    house.publisher.announced(VIP, "eth0")
    house.read(service(*to, uid=uid, shows=shows))
    return set(house.ledger.vips())


def test_the_former_address_stays_until_the_new_one_is_announced_here(house):
    assert moved(house, OTHER) == {VIP, OTHER}
    house.publisher.announced(OTHER, "eth0")
    assert house.look() == {VIP, OTHER}
    assert set(house.ledger.vips()) == {OTHER}
    assert [claimant.uid for claimant in house.desire.former_claimants(VIP)] == ["uid-1"]
    assert house.desire.lingers_until() == float("inf")


def test_the_former_address_stays_until_the_status_shows_the_new_one_elsewhere(house):
    moved(house, OTHER)
    house.read(service(OTHER, shows=[VIP, OTHER]))
    assert set(house.ledger.vips()) == {OTHER}
    assert house.status.written[-1] == ("uid-1", [OTHER])


def test_the_former_address_goes_in_time_though_the_new_one_never_comes(house):
    assert moved(house, OTHER) == {VIP, OTHER}
    assert house.desire.lingers_until() == house.clock.now() + LINGER_S
    house.clock.advance(LINGER_S / 2)
    house.look()
    assert house.desire.lingered() == []
    house.clock.advance(LINGER_S / 2)
    assert house.desire.lingered() == [WEB]
    house.look()
    assert set(house.ledger.vips()) == {OTHER}
    assert house.desire.lingered() == []
    assert LINGER_S < 1


def test_the_loop_itself_takes_the_former_address_down_in_time(house):
    house.asking.taken = {OTHER}
    house.know(marked())

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(0.01)
        house.apply(service(OTHER))
        await asyncio.sleep(LINGER_S - 0.1)
        assert house.kernel.ours() == {VIP}
        await asyncio.sleep(0.15)
        assert house.kernel.ours() == set()

    house.play(story)


@pytest.mark.parametrize(
    "change",
    [
        lambda house: house.read(service(OTHER, kind="ClusterIP")),
        lambda house: house.read(service(OTHER, uid="uid-9")),
        lambda house: house.read(service()),
        lambda house: (house.delete(), house.look()),
    ],
    ids=["not ours", "another Service", "asks for nothing", "deleted"],
)
def test_nothing_stays_for_a_service_that_is_gone_or_asks_for_nothing(house, change):
    assert VIP in moved(house, OTHER)
    change(house)
    assert not house.ledger.claimants(VIP)


def test_a_service_that_only_drops_an_address_is_rid_of_it_at_once(house):
    house.read(service(VIP, OTHER))
    house.know(marked(), marked(OTHER))
    house.read(service(OTHER))
    assert set(house.ledger.vips()) == {OTHER}


def test_an_address_that_is_refused_does_not_stay(house):
    house.read(younger(80))
    house.know(marked())
    house.read(older(80), with_ports(service(VIP, OTHER, key=API, uid="uid-2"), 80, second=2))
    assert uids(house) == {"uid-1"}


def test_only_the_node_that_has_the_former_address_keeps_it(house):
    house.read(service(VIP))
    house.read(service(OTHER))
    assert set(house.ledger.vips()) == {OTHER}


def test_an_address_that_another_service_takes_over_is_not_waited_for(house):
    moved(house, OTHER)
    house.read(service(VIP, key=API, uid="uid-2"))
    house.look()
    assert uids(house) == {"uid-2"}


def test_a_change_of_mind_while_the_former_address_stays(house):
    moved(house, OTHER)
    house.clock.advance(LINGER_S / 2)
    house.read(service(THIRD))
    assert set(house.ledger.vips()) == {VIP, THIRD}
    house.clock.advance(LINGER_S / 2)
    house.look()
    assert set(house.ledger.vips()) == {THIRD}
    house.read(service(VIP))
    assert VIP in set(house.ledger.vips())


# -- where a VIP may be held -------------------------------------------------------------------------------------------


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


def test_a_vip_shared_by_local_services_is_held_where_the_oldest_is_served_and_the_other_hears_of_it(house):
    house.read(older(80, local=True), younger(81, local=True))
    slices(house, endpoints("web-a", "n2"), endpoints("api-a", "n1", of="api"))
    house.read(older(80, local=True), younger(81, local=True))
    assert house.desire.eligible(VIP) is False
    assert [uid for uid, _ in messages(house, "NotServed")] == ["uid-2"]
    slices(house, endpoints("web-b", "n1"))
    house.look(WEB)
    assert house.desire.eligible(VIP) is True
    assert house.desire.leaning(VIP).fit == {"n1"}


def test_a_cluster_sibling_follows_the_local_one_that_is_served(house):
    house.read(older(80), younger(81, local=True))
    assert house.desire.eligible(VIP) is True
    slices(house, endpoints("api-a", "n2", of="api"))
    assert house.desire.eligible(VIP) is False
    assert house.desire.leaning(VIP).fit == {"n2"}


def test_an_endpoint_without_a_node_makes_local_like_cluster_and_says_so(house):
    slices(house, endpoints("web-a", "n2", None))
    house.read(service(VIP, local=True))
    assert house.desire.eligible(VIP) is True
    assert [uid for uid, _ in messages(house, "EndpointWithoutNode")] == ["uid-1"]


def test_by_option_a_cluster_service_needs_an_endpoint_ready_or_not():
    house = House(require_endpoints=True)
    house.read(service(VIP))
    assert house.desire.eligible(VIP) is False
    slices(house, endpoints("web-a", "n2", ready=False))
    assert house.desire.eligible(VIP) is True
    house.slices.synced = False
    assert house.desire.eligible(VIP) is None


def test_a_service_may_be_excepted_from_needing_endpoints_unless_it_is_local():
    house = House(require_endpoints=True)
    key = "kube-vip.io/allow-reconcile-without-endpoints"
    for local, able in ((False, True), (True, False)):
        house.read(replace(annotated(key, "true"), spec=service(VIP, local=local).spec))
        assert house.desire.eligible(VIP) is able


def test_without_the_option_a_cluster_service_without_endpoints_is_held(house):
    house.read(service(VIP))
    house.slices.synced = False
    assert house.desire.eligible(VIP) is True


def test_a_node_selector_is_matched_with_the_labels_of_this_node(house):
    labelled(house, "n1", {"zone": "a"})
    labelled(house, "n2", {"zone": "b"})
    house.read(selecting("zone=b"))
    assert house.desire.eligible(VIP) is False
    assert house.desire.leaning(VIP).fit == {"n2"}
    assert labelled(house, "n1", {"zone": "b"})
    assert house.desire.eligible(VIP) is True


def test_a_selector_that_matches_no_node_is_told(house):
    labelled(house, "n1", {"zone": "a"})
    house.read(selecting("zone=c"))
    assert house.desire.eligible(VIP) is False
    assert [uid for uid, _ in messages(house, "NoNode")] == ["uid-1"]


def test_a_selector_that_cannot_be_read_moves_nothing_and_is_told(house):
    house.read(selecting("zone in b"))
    assert house.desire.eligible(VIP) is None
    ((uid, message),) = messages(house, "InvalidAnnotation")
    assert uid == "uid-1"
    assert "kvip.io/node-selector" in message
    assert "'zone in b'" in message


def test_a_selector_that_cannot_be_read_does_not_hold_up_a_sibling(house):
    house.read(selecting("zone in b"), younger(81))
    assert house.desire.eligible(VIP) is True


def preferring(text):
    return annotated("kvip.io/preferred-nodes", text)


def test_preferred_nodes_lean_and_exclude_nobody(house):
    labelled(house, "n1", {})
    labelled(house, "n2", {"disk": "ssd"})
    house.read(preferring("n3,n2"))
    assert house.desire.leaning(VIP).tiers == ({"n3"}, {"n2"})
    assert house.desire.eligible(VIP) is True
    house.read(preferring("disk=ssd"))
    assert house.desire.leaning(VIP).tiers == ({"n2"},)
    house.read(preferring("Disk SSD"))
    assert house.desire.leaning(VIP).tiers == ()
    assert messages(house, "InvalidAnnotation")


def test_a_node_counts_as_changed_by_its_labels_and_taints_only(house):
    assert labelled(house, "n1", {"zone": "a"})
    assert not labelled(house, "n1", {"zone": "a"})
    assert labelled(house, "n1", {"zone": "b"})
    assert labelled(house, "n1", {"zone": "b"}, taints=(Taint(key="node.kubernetes.io/out-of-service"),))
    assert not labelled(house, "n1", {"zone": "b"}, taints=(Taint(key="node.kubernetes.io/out-of-service"), Taint(key="other")))
    del house.nodes.store["n1"]
    assert house.desire.whereabouts.node_changed("n1")
    assert not house.desire.whereabouts.node_changed("n1")


def test_endpoints_on_excluded_nodes_do_not_count(house):
    labelled(house, "n2", {EXCLUDE_LABEL: ""})
    slices(house, endpoints("web-a", "n2", "n3"))
    house.read(service(VIP, local=True))
    assert house.desire.leaning(VIP).fit == {"n3"}
    labelled(house, "n3", {})
    house.read(selecting("!zone"))
    assert house.desire.leaning(VIP).fit == {"n3"}


@pytest.mark.parametrize(
    ("labels", "spec", "rules", "able"),
    [
        ({}, {}, NodeRules(), True),
        ({EXCLUDE_LABEL: "true"}, {}, NodeRules(), False),
        ({EXCLUDE_LABEL: "true"}, {}, NodeRules(exclude_label=False), True),
        ({}, {"taints": (Taint(key="node.cloudprovider.kubernetes.io/shutdown"),)}, NodeRules(), False),
        ({}, {"unschedulable": True}, NodeRules(), True),
        ({}, {"unschedulable": True}, NodeRules(cordon_hands_over=True), False),
    ],
)
def test_an_excluded_node_holds_nothing(labels, spec, rules, able, caplog):
    house = House(node_rules=rules)
    house.read(service(VIP))
    house.demand.tick()
    labelled(house, "n1", labels, **spec)
    house.demand.tick()
    assert house.demand.able(VIP) is able
    assert house.demand.node_able() is able
    assert bool(house.elector.heard_of) is not able
    if not able:
        assert "its Node" in caplog.records[-1].reason


def test_i5_a_node_object_that_is_missing_excludes_nothing(house):
    house.read(service(VIP))
    assert house.demand.able(VIP) is True


def test_what_the_one_holder_of_all_may_not_hold_is_told_by_it_alone():
    house = House(one_holder=True)
    slices(house, endpoints("web-a", "n2"))
    house.elector.mute = {"uid-1"}
    house.read(service(VIP, local=True))
    assert house.events.posted == []
    house.elector.mute = set()
    house.wires.tick()
    ((uid, message),) = messages(house, "NotAnnounced")
    assert uid == "uid-1"
    assert "n2" in message


def test_with_a_holder_for_each_vip_no_node_complains_of_what_another_may_hold(house):
    slices(house, endpoints("web-a", "n2"))
    house.read(service(VIP, local=True))
    assert house.events.posted == []


@pytest.mark.parametrize("mode", [{"one_holder": True}, {}])
def test_nothing_is_said_of_endpoints_that_are_not_known_yet(mode):
    house = House(**mode)
    house.slices.synced = False
    house.read(service(VIP, local=True))
    assert house.events.posted == []


# -- addresses from the status -----------------------------------------------------------------------------------------

WROTE_INGRESS = b'{"manager":"%s","fieldsV1":{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}}'


def managed(*shows, by=("ipam",), vips=()):
    plain = service(*vips, shows=shows)
    fields = tuple(msgspec.json.decode(WROTE_INGRESS % name.encode(), type=ManagedFields) for name in by)
    metadata = ManagedMeta(**{name: getattr(plain.metadata, name) for name in plain.metadata.__struct_fields__}, managed_fields=fields)
    return ManagedService(metadata=metadata, spec=plain.spec, status=plain.status)


@pytest.mark.parametrize(
    ("option", "by", "taken"),
    [
        (True, ("ipam",), True),
        (True, ("kvip",), False),
        (True, ("kube-vip",), False),
        (True, ("ipam", "kvip"), False),
        (True, (), False),
        (False, ("ipam",), False),
    ],
)
def test_addresses_of_another_ipam_are_taken_by_option_and_never_ones_own(option, by, taken):
    house = House(addresses_from_status=option)
    house.read(managed(VIP, by=by))
    assert set(house.ledger.vips()) == ({VIP} if taken else set())


def test_an_object_of_which_the_writers_are_not_known_gives_no_addresses():
    house = House(addresses_from_status=True)
    house.read(service(shows=[VIP]))
    assert set(house.ledger.vips()) == set()


def test_what_the_ipam_wrote_is_not_written_again_in_other_words():
    """A write would make kvip the owner of the list, and then the address is not read from it any more."""
    house = House(addresses_from_status=True)
    given = managed("2001:DB8::7")
    house.read(given)
    house.publisher.announced("2001:db8::7", "eth0")
    assert house.status.written == []
    assert house.events.told() == [("VIPBound", "uid-1")]


def test_the_annotation_wins_over_the_status_and_entries_of_the_ipam_stay():
    house = House(addresses_from_status=True)
    house.read(managed(VIP))
    house.read(managed(VIP, vips=[OTHER]))
    house.publisher.announced(OTHER, "eth0")
    assert house.status.written == [("uid-1", [VIP, OTHER])]
    house.read(managed(VIP, OTHER, by=("kvip",), vips=[OTHER]))
    assert len(house.status.written) == 1


def test_an_address_of_the_ipam_that_was_bound_leaves_without_its_entry():
    house = House(addresses_from_status=True)
    house.read(managed(VIP))
    house.know(marked())
    house.read(managed(VIP, vips=[OTHER]))
    house.publisher.announced(OTHER, "eth0")
    house.read(managed(VIP, OTHER, by=("kvip",), vips=[OTHER]))
    assert set(house.ledger.vips()) == {OTHER}
    assert house.status.written == [("uid-1", [VIP, OTHER])]


def test_an_address_that_the_ipam_changes_stays_until_the_new_one_is_up():
    house = House(addresses_from_status=True)
    house.read(managed(VIP))
    house.know(marked())
    house.read(managed(OTHER))
    assert set(house.ledger.vips()) == {VIP, OTHER}
    house.publisher.announced(OTHER, "eth0")
    house.look()
    assert set(house.ledger.vips()) == {OTHER}
    assert house.status.written == []


def test_a_first_frame_that_leaves_when_the_ipam_has_just_changed_the_address_writes_nothing():
    house = House(addresses_from_status=True)
    house.read(managed(VIP))
    house.apply(managed(OTHER))
    house.publisher.announced(VIP, "eth0")
    assert house.status.written == []


def test_what_a_former_daemon_read_from_the_status_is_not_ours_to_remove():
    house, later = House(addresses_from_status=True), House(addresses_from_status=True)
    house.read(managed(VIP))
    later.desire.remember({VIP: tuple(house.ledger.claimants(VIP).values())})
    later.read(managed(VIP, OTHER, by=("kvip",), vips=[OTHER]))
    assert later.status.written == []


def test_an_entry_of_the_ipam_is_not_removed_though_the_address_was_kvips_before():
    house = House(addresses_from_status=True)
    house.read(managed(VIP, by=("kvip",), vips=[VIP, OTHER]))
    house.read(managed(VIP, by=("ipam",), vips=[OTHER]))
    assert house.status.written == []


def test_ones_own_entry_is_removed_and_never_read_back():
    house = House(addresses_from_status=True)
    house.read(managed(VIP, by=("kvip",), vips=[VIP]))
    house.read(managed(VIP, by=("kvip",)))
    assert set(house.ledger.vips()) == set()
    assert house.status.written == [("uid-1", [])]


# -- in the loop -------------------------------------------------------------------------------------------------------


def test_a_label_of_a_node_takes_effect_at_once_and_many_nodes_cost_one_reading(house):
    read = []
    read_them = house.desire.read

    async def story():
        house.apply(selecting("zone=a"))
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == set()
        house.desire.read = lambda keys: read.extend(keys) or read_them(keys)
        for number in range(50):
            house.nodes.store[f"m{number}"] = node(f"m{number}")
            house.wires.node_changed(f"m{number}")
        house.nodes.store["n1"] = replace(node("n1"), metadata=replace(node("n1").metadata, labels={"zone": "a"}))
        house.wires.node_changed("n1")
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == {VIP}

    house.play(story)
    assert read == [WEB]


def test_endpoints_that_become_known_without_a_slice_of_the_service_let_it_go(house):
    """No slice of it: nothing but the complete snapshot tells."""
    house.slices.synced = False
    house.know(marked())
    house.apply(service(VIP, local=True))

    async def story():
        assert house.kernel.ours() == {VIP}
        house.slices.synced = True
        house.reconcile.wake()
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == set()

    house.play(story)


def test_i5_endpoints_that_are_not_known_withdraw_nothing(house):
    slices(house, endpoints("web-a", "n1"))

    async def story():
        house.apply(service(VIP, local=True))
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == {VIP}
        house.slices.synced = False
        house.slices.store.clear()
        house.apply(service(VIP, local=True, version="2"))
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == {VIP}

    house.play(story)


def test_one_service_that_cannot_be_read_holds_up_no_other(house, caplog):
    broken = replace(service(VIP), spec=None)

    async def story():
        house.apply(broken, service(OTHER, key=API, uid="uid-2"))
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == {OTHER}

    house.play(story)
    assert [record.service for record in caplog.records if record.levelname == "ERROR"] == [WEB]


@pytest.mark.parametrize("bad", ["zone in b", "((("])
def test_a_selector_that_becomes_unreadable_leaves_the_vip_where_it_is(house, bad):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(0.01)
        house.apply(selecting(bad))
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == {VIP}

    house.play(story)
