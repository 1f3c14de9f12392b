"""What a Service asks for: whose it is, which addresses, and the name of every value that cannot be bound."""

import ipaddress

import pytest

from kvip.core.addresses import Surroundings
from kvip.core.annotations import ADDRESSES, IGNORE
from kvip.core.desired import MOST_ADDRESSES, Rules, interpret, is_ours
from kvip.core.model import Vip
from kvip.core.objects import ObjectMeta, Service, ServiceSpec
from kvip.core.problem import MOST_TOLD
from kvip.core.strays import addresses_in

RULES = Rules(load_balancer_class="kvip.io/kvip")
ONLY = Rules(load_balancer_class="kvip.io/kvip", class_only=True)
AROUND = Surroundings(
    local_addresses=frozenset({Vip("192.0.2.1"), Vip("2001:db8::1")}),
    node_addresses=frozenset({Vip("192.0.2.11"), Vip("2001:db8::11")}),
    networks=(
        ipaddress.ip_network("192.0.2.0/24"),
        ipaddress.ip_network("198.51.100.0/31"),
        ipaddress.ip_network("2001:db8::/64"),
    ),
)


def service(addresses=None, *, ip="", kind="LoadBalancer", cls=None, annotations=None, deleted=None, policy=""):
    notes = dict(annotations or {})
    if addresses is not None:
        notes[ADDRESSES] = addresses
    return Service(
        metadata=ObjectMeta(name="web", namespace="shop", uid="u1", generation=7, annotations=notes or None, deletion_timestamp=deleted),
        spec=ServiceSpec(type=kind, load_balancer_class=cls, load_balancer_ip=ip, external_traffic_policy=policy),
    )


BAD = [
    ("not-an-ip", "not an IP"),
    ("300.1.1.1", "not an IP"),
    ("192.0.2.7/32", "not an IP"),
    ("192.0.2.07", "not an IP"),
    ("1", "not an IP"),
    ("192.0.2.7 192.0.2.8", "not an IP"),
    ("fe80::1%eth0", "zone"),
    ("2001:db8::7%1", "zone"),
    ("192.0.2.0", "network address"),
    ("2001:db8::", "network address"),
    ("192.0.2.255", "broadcast address"),
    ("255.255.255.255", "broadcast"),
    ("240.0.0.1", "reserved"),
    ("224.0.0.1", "multicast"),
    ("ff02::1", "multicast"),
    ("127.0.0.1", "loopback"),
    ("127.9.9.9", "loopback"),
    ("::1", "loopback"),
    ("169.254.1.1", "link-local"),
    ("fe80::1", "link-local"),
    ("0.0.0.0", "0.0.0.0/8"),
    ("0.1.2.3", "0.0.0.0/8"),
    ("::", "not a host"),
    ("::ffff:192.0.2.7", "IPv4-mapped"),
    ("192.0.2.1", "of this node"),
    ("2001:DB8:0::1", "of this node"),
    ("192.0.2.11", "of a Node"),
    ("2001:db8:0:0::11", "of a Node"),
]


@pytest.mark.parametrize(("value", "fault"), BAD, ids=[value for value, _ in BAD])
def test_a_bad_value_is_named_and_the_others_go_on(value, fault):
    wish = interpret(service(f"192.0.2.50, {value} ,2001:db8::50"), RULES, AROUND)
    assert wish.addresses == ("192.0.2.50", "2001:db8::50")
    (problem,) = wish.problems
    assert problem.reason == "InvalidAddress"
    assert repr(value) in problem.message
    assert fault in problem.message
    assert ADDRESSES in problem.message


@pytest.mark.parametrize(("value", "fault"), BAD, ids=[value for value, _ in BAD])
def test_a_bad_value_in_the_spec_is_named_and_not_bound(value, fault):
    wish = interpret(service(ip=value), RULES, AROUND)
    assert wish.addresses == ()
    (problem,) = wish.problems
    assert repr(value) in problem.message
    assert fault in problem.message
    assert "spec.loadBalancerIP" in problem.message


@pytest.mark.parametrize("value", ["", ",", " , ,"])
def test_an_empty_list_is_a_problem_and_does_not_fall_back_to_the_spec(value):
    wish = interpret(service(value, ip="192.0.2.60"), RULES, AROUND)
    assert wish.addresses == ()
    (problem,) = wish.problems
    assert "lists no address" in problem.message
    assert repr(value) in problem.message


@pytest.mark.parametrize(
    ("value", "named"),
    [("192.0.2.7,192.0.2.7", "192.0.2.7"), ("2001:db8::7,2001:DB8:0:0::7", "2001:db8::7"), ("192.0.2.7,192.0.2.7,192.0.2.7", "192.0.2.7")],
)
def test_a_duplicate_is_named_once_and_not_bound(value, named):
    wish = interpret(service(f"{value},192.0.2.50"), RULES, AROUND)
    assert wish.addresses == ("192.0.2.50",)
    (problem,) = wish.problems
    assert repr(named) in problem.message
    assert "more than once" in problem.message


def test_ten_thousand_characters_give_a_short_message_that_begins_with_the_value():
    wish = interpret(service(f"{'9' * 10_000},192.0.2.50"), RULES, AROUND)
    assert wish.addresses == ("192.0.2.50",)
    (problem,) = wish.problems
    assert "'" + "9" * 61 in problem.message
    assert "10000 characters" in problem.message
    assert len(problem.message) < 250


def test_every_bad_value_of_one_list_is_named():
    wish = interpret(service(",".join(value for value, _ in BAD)), RULES, AROUND)
    assert wish.addresses == ()
    assert len(wish.problems) == len(BAD)
    for (value, _), problem in zip(BAD, wish.problems, strict=True):
        assert repr(value) in problem.message


@pytest.mark.parametrize("value", ["198.51.100.0", "198.51.100.1", "203.0.113.0", "203.0.113.255", "2001:db8::ffff:ffff:ffff:ffff"])
def test_an_address_is_good_where_no_subnet_says_otherwise(value):
    wish = interpret(service(value), RULES, AROUND)
    assert wish.addresses == (value,)
    assert wish.problems == ()


def test_addresses_are_canonical_and_keep_their_order():
    wish = interpret(service("2001:DB8:0:0::50, 192.0.2.50"), RULES, AROUND)
    assert wish.addresses == ("2001:db8::50", "192.0.2.50")
    assert (wish.uid, wish.key, wish.generation) == ("u1", "shop/web", 7)


def test_the_annotation_wins_over_the_spec():
    assert interpret(service("192.0.2.50", ip="192.0.2.60"), RULES, AROUND).addresses == ("192.0.2.50",)


def test_the_spec_is_used_without_the_annotation():
    assert interpret(service(ip=" 192.0.2.60 "), RULES, AROUND).addresses == ("192.0.2.60",)


def test_a_service_that_asks_for_nothing_has_no_problem():
    wish = interpret(service(), RULES, AROUND)
    assert (wish.addresses, wish.problems) == ((), ())


@pytest.mark.parametrize(
    ("fields", "rules", "ours"),
    [
        ({}, RULES, True),
        ({"cls": "kvip.io/kvip"}, RULES, True),
        ({"cls": "other.io/lb"}, RULES, False),
        ({"cls": ""}, RULES, True),
        ({}, ONLY, False),
        ({"cls": "kvip.io/kvip"}, ONLY, True),
        ({"cls": "other.io/lb"}, ONLY, False),
        ({"kind": "ClusterIP"}, RULES, False),
        ({"kind": "NodePort"}, RULES, False),
        ({"kind": "ExternalName"}, RULES, False),
        ({"kind": "ClusterIP", "cls": "kvip.io/kvip"}, RULES, False),
        ({"annotations": {IGNORE: "true"}}, RULES, False),
        ({"annotations": {IGNORE: " True "}}, RULES, False),
        ({"annotations": {IGNORE: "false"}}, RULES, True),
        ({"annotations": {IGNORE: ""}}, RULES, True),
        ({"deleted": "2026-01-01T00:00:00Z"}, RULES, False),
    ],
)
def test_which_services_are_ours(fields, rules, ours):
    asked = service("192.0.2.50,nonsense", **fields)
    assert is_ours(asked, rules) is ours
    wish = interpret(asked, rules, AROUND)
    assert bool(wish.addresses) is ours
    assert bool(wish.problems) is ours


@pytest.mark.parametrize(("policy", "local"), [("", False), ("Cluster", False), ("Local", True)])
def test_the_traffic_policy_is_part_of_the_wish(policy, local):
    assert interpret(service("192.0.2.50", policy=policy), RULES, AROUND).local_only is local


def ask(asking):
    return interpret(asking, RULES, Surroundings())


MUCH = 262_144
"""Characters: as many as Kubernetes lets the annotations of an object have (ValidateAnnotationsSize)."""


@pytest.mark.parametrize("part", ["a,", ",", "192.0.2.7,", "1" * 100 + ","], ids=["a", "nothing", "one again and again", "long"])
def test_what_a_service_can_ask_of_every_node_is_bounded(part):
    """Each node reads it at each change, in the loop that renews the lease."""
    wish = ask(service(part * (MUCH // len(part))))
    assert len(wish.addresses) <= MOST_ADDRESSES
    assert len(wish.refused) <= MOST_ADDRESSES + 1
    assert 0 < len(wish.problems) <= MOST_ADDRESSES + 1
    assert sum(len(problem.message) for problem in wish.problems) < 30_000


def test_a_service_has_so_many_addresses_and_no_more_and_is_told_so():
    vips = [f"198.51.100.{number}" for number in range(10, 10 + MOST_ADDRESSES + 2)]
    assert ask(service(",".join(vips[:MOST_ADDRESSES]))).addresses == tuple(vips[:MOST_ADDRESSES])
    wish = ask(service(",".join(vips)))
    assert wish.addresses == tuple(vips[:MOST_ADDRESSES])
    (problem,) = wish.problems
    assert vips[MOST_ADDRESSES] in problem.message
    assert f"is beyond the {MOST_ADDRESSES} addresses that one Service can have" in problem.message
    assert not addresses_in(service(",".join(vips))) - set(vips[:MOST_ADDRESSES])


def test_misspelt_annotations_without_end_cost_no_more_than_are_told():
    notes = {f"kube-vip.io/loadbalancerIP{number}": "x" for number in range(10_000)}
    assert len(ask(service(annotations=notes)).problems) <= MOST_TOLD + 1
