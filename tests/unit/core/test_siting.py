"""Which nodes may hold a VIP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.desired import Wish
from kvip.core.election.placement import ALIKE, Leaning, lean
from kvip.core.model import ServiceKey
from kvip.core.objects import Endpoint, EndpointConditions, EndpointSlice, Node, NodeSpec, ObjectMeta, Taint
from kvip.core.selectors import parse
from kvip.core.siting import EXCLUDE_LABEL, Choice, Endpoints, NodeRules, Site, choose, exclusion, gather, shortage
from kvip.core.siting import site as site_of

A, B, C = (ServiceKey(f"default/{name}") for name in "abc")
RULES = NodeRules()


def site(service, *nodes, anywhere=False, **more):
    return Site(service=service, nodes=None if anywhere else frozenset(nodes), **more)


def conditions(ready, serving=None, terminating=None):
    return EndpointConditions(ready=ready, serving=serving, terminating=terminating)


def piece(*endpoints):
    return EndpointSlice(metadata=ObjectMeta(name="s"), endpoints=endpoints or None)


@pytest.mark.parametrize(
    ("state", "usable"),
    [
        (None, True),
        (conditions(True), True),
        (conditions(None), True),
        (conditions(False), False),
        (conditions(False, True, True), True),
        (conditions(False, True, False), False),
        (conditions(False, True, None), False),
        (conditions(False, False, True), False),
    ],
)
def test_an_endpoint_takes_traffic_when_ready_or_serving_while_terminating(state, usable):
    found = gather([piece(), piece(Endpoint(node_name="n1", conditions=state))])
    assert (found.any, found.nodes) == (True, {"n1"} if usable else set())


def test_endpoints_are_gathered_from_all_slices():
    found = gather([piece(Endpoint(node_name="n1")), piece(), piece(Endpoint(node_name="n2"), Endpoint(node_name="n1"))])
    assert found.nodes == {"n1", "n2"}
    assert not found.placeless
    assert not gather([]).any


@pytest.mark.parametrize(("state", "placeless"), [(None, True), (conditions(False), False)])
def test_an_endpoint_without_a_node_is_noticed_when_it_takes_traffic(state, placeless):
    assert gather([piece(Endpoint(conditions=state), Endpoint(node_name="", conditions=state))]).placeless is placeless


@pytest.mark.parametrize(
    ("sites", "choice"),
    [
        ([], Choice()),
        ([site(A, anywhere=True)], Choice()),
        ([site(A, "n1", "n2")], Choice(nodes=frozenset({"n1", "n2"}))),
        ([site(A)], Choice(nodes=frozenset())),
        ([site(A), site(B)], Choice(nodes=frozenset())),
        ([site(A), site(B, anywhere=True)], Choice()),
        ([site(A, "n1"), site(B, anywhere=True)], Choice(nodes=frozenset({"n1"}))),
        ([site(A, "n1", "n2"), site(B, "n2", "n3")], Choice(nodes=frozenset({"n2"}))),
        ([site(A, "n1"), site(B, "n2"), site(C, "n1")], Choice(nodes=frozenset({"n1"}), left_out=(B,))),
        ([site(A), site(B, "n2"), site(C, "n1")], Choice(nodes=frozenset({"n2"}), left_out=(C,))),
        ([site(A, readable=False)], Choice(known=False)),
        ([site(A, readable=False), site(B, "n1")], Choice(nodes=frozenset({"n1"}))),
        ([site(A, known=False)], Choice(known=False)),
        ([site(A, known=False), site(B, anywhere=True)], Choice(known=False)),
    ],
)
def test_the_oldest_chooses_first(sites, choice):
    assert choose(sites) == choice


def test_a_choice_says_yes_no_or_not_known():
    assert Choice().allows("n1") is True
    assert Choice(nodes=frozenset({"n2"})).allows("n1") is False
    assert Choice(known=False).allows("n1") is None


NODES = st.frozensets(st.sampled_from(["n1", "n2", "n3"]))
SITES = st.lists(st.builds(Site, service=st.sampled_from([A, B, C]), nodes=st.none() | NODES), max_size=4)


@given(SITES)
def test_the_oldest_that_is_served_at_all_is_always_served(sites):
    choice = choose(sites)
    served = [each for each in sites if each.nodes is None or each.nodes]
    assert choice.known
    if served:
        assert choice.nodes is None or choice.nodes
        first = next((each.nodes for each in served if each.nodes is not None), None)
        assert first is None or choice.nodes <= first
    elif sites:
        assert choice.nodes == frozenset()


# -- Nodes -------------------------------------------------------------------------------------------------------------


def node(*taints, labels=None, cordoned=False):
    spec = NodeSpec(taints=tuple(Taint(key=key) for key in taints) or None, unschedulable=cordoned)
    return Node(metadata=ObjectMeta(name="n1", labels=labels), spec=spec)


@pytest.mark.parametrize(
    ("found", "rules", "named"),
    [
        (None, RULES, ""),
        (node(), RULES, ""),
        (node(labels={EXCLUDE_LABEL: ""}), RULES, EXCLUDE_LABEL),
        (node(labels={EXCLUDE_LABEL: "false"}), RULES, "exclude-label=false"),
        (node(labels={EXCLUDE_LABEL: ""}), NodeRules(exclude_label=False), ""),
        (node("node.cloudprovider.kubernetes.io/shutdown"), RULES, "shutdown"),
        (node("node.kubernetes.io/out-of-service"), RULES, "out-of-service"),
        (node("ToBeDeletedByClusterAutoscaler"), RULES, "ToBeDeleted"),
        (node("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "dedicated"), RULES, ""),
        (node("node.kubernetes.io/unschedulable", cordoned=True), RULES, ""),
        (node("node.kubernetes.io/unschedulable"), NodeRules(cordon_hands_over=True), "cordoned"),
        (node(cordoned=True), NodeRules(cordon_hands_over=True), "cordoned"),
    ],
)
def test_a_node_is_excluded_by_its_label_by_shutting_down_and_by_option_when_cordoned(found, rules, named):
    assert bool(exclusion(found, rules)) is bool(named)
    assert named in exclusion(found, rules)


# -- order -------------------------------------------------------------------------------------------------------------

ORDER = ["n1", "n2", "n3", "n4"]


@pytest.mark.parametrize(
    ("leaning", "former", "turn"),
    [
        (ALIKE, "", ["n1", "n2", "n3", "n4"]),
        (ALIKE, "n3", ["n3", "n1", "n2", "n4"]),
        (Leaning(fit=frozenset({"n3", "n4"})), "", ["n3", "n4", "n1", "n2"]),
        (Leaning(fit=frozenset({"n3", "n4"})), "n1", ["n3", "n4", "n1", "n2"]),
        (Leaning(tiers=(frozenset({"n4"}), frozenset({"n2"}))), "", ["n4", "n2", "n1", "n3"]),
        (Leaning(tiers=(frozenset({"n2", "n4"}),)), "n4", ["n4", "n2", "n1", "n3"]),
        (Leaning(tiers=(frozenset({"n4"}),)), "n3", ["n4", "n3", "n1", "n2"]),
        (Leaning(fit=frozenset({"n1", "n3"}), tiers=(frozenset({"n4"}), frozenset({"n3"}))), "", ["n3", "n1", "n4", "n2"]),
        (Leaning(fit=frozenset()), "n2", ["n2", "n1", "n3", "n4"]),
    ],
)
def test_who_can_serve_comes_first_then_who_is_preferred_then_who_had_it(leaning, former, turn):
    assert lean(ORDER, leaning, former=former) == turn


@given(NODES | st.none(), st.lists(NODES, max_size=3), st.sampled_from(["", *ORDER]))
def test_the_order_excludes_nobody(fit, tiers, former):
    assert sorted(lean(ORDER, Leaning(fit=fit, tiers=tuple(tiers)), former=former)) == ORDER


def wish(*, local=False, needs=False, selector=()):
    return Wish(uid="u", key=A, local_only=local, needs_endpoints=needs, node_selector=selector)


ON_N1 = Endpoints(any=True, nodes=frozenset({"n1"}))
NODES = {
    "n1": Node(metadata=ObjectMeta(name="n1", labels={"zone": "a"})),
    "n2": Node(metadata=ObjectMeta(name="n2", labels={EXCLUDE_LABEL: ""})),
}
ZONE_A, ZONE_B = parse("zone=a"), parse("zone=b")


@pytest.mark.parametrize(
    ("asked", "endpoints", "nodes", "why"),
    [
        (wish(), None, None, ""),
        (wish(local=True), ON_N1, {"n1"}, ""),
        (wish(local=True), Endpoints(any=True, placeless=True), None, ""),
        (wish(local=True), Endpoints(), set(), "externalTrafficPolicy is Local, and it has no endpoints"),
        (wish(local=True), Endpoints(any=True), set(), "none of its endpoints takes traffic"),
        (wish(local=True), Endpoints(any=True, nodes=frozenset({"n2"})), set(), "it asks for n2, which may hold no VIPs"),
        (wish(needs=True), Endpoints(), set(), "require-endpoints"),
        (wish(needs=True), ON_N1, None, ""),
        (wish(selector=ZONE_A), None, {"n1"}, ""),
        (wish(selector=ZONE_B), None, set(), "no Node matches"),
        (wish(local=True, selector=ZONE_A), Endpoints(any=True, nodes=frozenset({"n3"})), set(), "its endpoints are on n3, which"),
    ],
)
def test_the_nodes_that_do_for_a_claimant_and_why_none_does(asked, endpoints, nodes, why):
    found = site_of(asked, endpoints, NODES, RULES)
    assert found == Site(service=A, nodes=None if nodes is None else frozenset(nodes))
    said = shortage(asked, endpoints, NODES, RULES)
    assert why in said
    assert bool(said) == (nodes == set()), "it is said exactly where no node does"


def test_what_is_not_known_is_no_shortage():
    assert site_of(wish(local=True), None, NODES, RULES) == Site(service=A, known=False)
    assert shortage(wish(local=True), None, NODES, RULES) == ""
    assert site_of(wish(selector=None), None, NODES, RULES) == Site(service=A, readable=False)
