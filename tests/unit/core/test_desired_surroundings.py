"""Addresses that are never bound because something the cluster depends on has them: gateways and API servers."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.addresses import Surroundings, network_of
from kvip.core.annotations import ADDRESSES
from kvip.core.desired import Rules, interpret
from kvip.core.model import Vip
from kvip.core.objects import ObjectMeta, Service, ServiceSpec

RULES = Rules(load_balancer_class="kvip.io/kvip")
AROUND = Surroundings(
    gateways=frozenset({Vip("192.0.2.254"), Vip("2001:db8::fe")}),
    api_servers=frozenset({Vip("192.0.2.250"), Vip("2001:db8::a"), Vip("10.96.0.1")}),
)


def ask(addresses):
    metadata = ObjectMeta(name="web", namespace="shop", uid="u1", annotations={ADDRESSES: addresses})
    return interpret(Service(metadata=metadata, spec=ServiceSpec(type="LoadBalancer")), RULES, AROUND)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("192.0.2.254", "default gateway"),
        ("2001:DB8:0::FE", "default gateway"),
        ("192.0.2.250", "API server"),
        ("2001:db8::a", "API server"),
        ("10.96.0.1", "API server"),
    ],
)
def test_a_gateways_and_the_api_servers_address_is_refused_by_name_and_the_others_go_on(value, fault):
    wish = ask(f"{value},192.0.2.7")
    assert wish.addresses == (Vip("192.0.2.7"),)
    (problem,) = wish.problems
    assert problem.reason == "InvalidAddress"
    assert value in problem.message
    assert fault in problem.message
    assert "not bound" in problem.message


def test_a_change_of_the_gateway_is_a_change_of_the_surroundings():
    assert Surroundings(gateways=frozenset({Vip("192.0.2.254")})) != Surroundings()
    assert Surroundings(api_servers=frozenset({Vip("192.0.2.254")})) != Surroundings()


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_the_subnet_of_an_address_is_the_same_each_time(ip, prefix_len):
    wanted = ipaddress.ip_network(f"{ip}/{prefix_len}", strict=False)
    assert [network_of(str(ip), prefix_len) for _ in range(2)] == [wanted, wanted]
