"""Which addresses and namespaces an operator allows: what lies outside is named, is claimed by nobody, and nothing of it is touched."""

import pytest

from kvip.core.addresses import Surroundings, parse_networks, range_refusal
from kvip.core.annotations import ADDRESSES
from kvip.core.desired import Rules, interpret, named, not_ours
from kvip.core.model import Vip
from kvip.core.objects import (
    BalancerFields,
    Ingress,
    IngressFields,
    LoadBalancerStatus,
    ManagedFields,
    ManagedMeta,
    ManagedService,
    ObjectMeta,
    Service,
    ServiceSpec,
    ServiceStatus,
    StatusFields,
)

LISTED = parse_networks(["192.0.2.0/28", "2001:db8:7::/64"])
RULES = Rules(load_balancer_class="kvip.io/kvip", allowed=LISTED)


def service(addresses=None, *, namespace="shop", **spec):
    metadata = ObjectMeta(name="web", namespace=namespace, uid="u1", annotations={ADDRESSES: addresses} if addresses else None)
    return Service(metadata=metadata, spec=ServiceSpec(type="LoadBalancer", **spec))


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        ("192.0.2.1", True),
        ("192.0.2.15", True),
        ("192.0.2.16", False),
        ("10.0.0.1", False),
        ("2001:db8:7::1", True),
        ("2001:DB8:7:0::ffff", True),
        ("2001:db8:8::1", False),
    ],
)
def test_an_address_outside_the_list_is_refused_with_value_place_and_way_out(value, inside):
    wish = interpret(service(f"{value},192.0.2.7"), RULES, Surroundings())
    if inside:
        assert (len(wish.addresses), wish.problems) == (2, ())
        return
    assert wish.addresses == (Vip("192.0.2.7"),)
    (problem,) = wish.problems
    assert problem.reason == "InvalidAddress"
    for part in (
        f"annotation {ADDRESSES}: {value!r}",
        "is outside allow-cidr (192.0.2.0/28, 2001:db8:7::/64)",
        "choose one inside",
        "not bound",
    ):
        assert part in problem.message


def test_it_counts_wherever_the_address_comes_from():
    assert interpret(service(load_balancer_ip="10.0.0.1"), RULES, Surroundings()).addresses == ()
    fields = StatusFields(status=BalancerFields(load_balancer=IngressFields(ingress={})))
    shown = ManagedService(
        metadata=ManagedMeta(name="web", namespace="shop", uid="u1", managed_fields=(ManagedFields(manager="ipam", fields_v1=fields),)),
        spec=ServiceSpec(type="LoadBalancer"),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=(Ingress(ip="10.0.0.1"), Ingress(ip="192.0.2.3")))),
    )
    rules = Rules(load_balancer_class="kvip.io/kvip", allowed=LISTED, addresses_from_status=True)
    assert interpret(shown, rules, Surroundings()).addresses == (Vip("192.0.2.3"),)


def test_what_can_never_be_a_vip_is_told_as_such_though_the_list_holds_it():
    rules = Rules(load_balancer_class="kvip.io/kvip", allowed=parse_networks(["0.0.0.0/0"]))
    around = Surroundings(node_addresses=frozenset({Vip("192.0.2.11")}), gateways=frozenset({Vip("192.0.2.254")}))
    wish = interpret(service("192.0.2.11,192.0.2.254,127.0.0.1"), rules, around)
    assert wish.addresses == ()
    assert [problem.message for problem in wish.problems if "allow-cidr" in problem.message] == []


def test_one_family_in_the_list_leaves_the_other_out():
    rules = Rules(load_balancer_class="kvip.io/kvip", allowed=parse_networks(["0.0.0.0/0"]))
    assert interpret(service("192.0.2.1,2001:db8::1"), rules, Surroundings()).addresses == (Vip("192.0.2.1"),)


def test_without_a_list_every_address_may_be_a_vip():
    assert range_refusal(Vip("203.0.113.9"), ()) is None


def test_a_long_list_is_not_told_whole():
    fault = range_refusal(Vip("10.0.0.1"), parse_networks([f"192.0.{number}.0/24" for number in range(200)]))
    assert fault is not None
    assert len(fault) < 250


def test_what_is_named_is_told_apart_from_what_can_be_had():
    assert list(named(service("10.0.0.1, 192.0.2.7, nonsense"), RULES)) == ["10.0.0.1", "192.0.2.7"]


def test_only_the_namespaces_of_the_list_are_served():
    rules = Rules(load_balancer_class="kvip.io/kvip", namespaces=("shop", "web"))
    assert not_ours(service("192.0.2.7"), rules) == ""
    assert not_ours(service("192.0.2.7", namespace="web"), rules) == ""
    why = not_ours(service("192.0.2.7", namespace="other"), rules)
    assert why == "it is in the namespace 'other', and service-namespace leaves only 'shop, web' to kvip"
    assert interpret(service("192.0.2.7", namespace="other"), rules, Surroundings()).addresses == ()
