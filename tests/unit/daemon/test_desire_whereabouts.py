"""Where a VIP may be held: local endpoints, node selectors, preferred and excluded nodes."""

import asyncio

import pytest
from msgspec.structs import replace

from kvip.core.objects import Taint
from kvip.core.siting import EXCLUDE_LABEL, NodeRules
from tests.unit.daemon.fake_ports import API, OTHER, VIP, WEB, endpoints, marked, node, service
from tests.unit.daemon.house import House
from tests.unit.daemon.services import annotated, labelled, messages, older, selecting, slices, younger


@pytest.fixture
def house():
    return House()


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


@pytest.mark.parametrize("bad", ["zone in b", "((("])
def test_a_selector_that_becomes_unreadable_leaves_the_vip_where_it_is(house, bad):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(0.01)
        house.apply(selecting(bad))
        await asyncio.sleep(0.01)
        assert house.kernel.ours() == {VIP}

    house.play(story)


def test_where_a_vip_may_be_is_not_worked_out_anew_for_another_service(house):
    """Status of thousands of Services is written while their VIPs are taken over, and each write comes back by the watch."""
    house.read(service(VIP), service(OTHER, key=API, uid="uid-api"))
    choose, chosen = house.desire.whereabouts.choose, []
    house.desire.whereabouts.choose = lambda wishes: chosen.append([wish.key for wish in wishes]) or choose(wishes)
    assert house.desire.eligible(VIP) is True
    house.read(service(OTHER, key=API, uid="uid-api", local=True))
    assert (house.desire.eligible(VIP), house.desire.eligible(OTHER)) == (True, False)
    assert chosen.count([WEB]) <= 1
    house.read(service(VIP, local=True))
    assert house.desire.eligible(VIP) is False


def test_what_the_node_object_says_holds_though_nobody_told_of_it(house):
    def stored(*keys):
        house.nodes.store["n1"] = replace(node("n1"), spec=replace(node("n1").spec, taints=[Taint(key=key) for key in keys]))

    stored("node.cloudprovider.kubernetes.io/shutdown")
    assert house.desire.whereabouts.exclusion()
    stored()
    assert not house.desire.whereabouts.exclusion()
    del house.nodes.store["n1"]
    assert not house.desire.whereabouts.exclusion()
