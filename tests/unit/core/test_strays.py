"""Which addresses are strays: managed, unmarked, and nobody's."""

import pytest

from kvip.core.desired import Rules
from kvip.core.model import Address, IfIndex
from kvip.core.objects import Ingress, LoadBalancerStatus, ObjectMeta, Service, ServiceSpec, ServiceStatus
from kvip.core.strays import Managed, Owner, Stray, addresses_in, find_strays, owner_of, parse_ranges, suspects

NIC = IfIndex(2)
NICS = {NIC: "eth0"}
OURS = Owner(service="default/web", uid="u1", ours=True)
THEIRS = Owner(service="default/other", uid="u2")


def address(text, index=NIC, **fields):
    ip, _, prefix = text.partition("/")
    return Address(ip=ip, prefix_len=int(prefix or (128 if ":" in ip else 32)), index=index, **fields)


OWN = [address("10.0.0.1/24"), address("2001:db8::1/64"), address("fe80::1/64")]


def service(annotation=None, spec_ip="", ingress=(), kind="LoadBalancer", load_balancer_class=None):
    return Service(
        metadata=ObjectMeta(
            name="web", namespace="default", uid="u1", annotations={"kube-vip.io/loadbalancerIPs": annotation} if annotation else None
        ),
        spec=ServiceSpec(type=kind, load_balancer_ip=spec_ip, load_balancer_class=load_balancer_class),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=tuple(Ingress(ip=ip) for ip in ingress))),
    )


def strays(*addresses, node=(), **managed):
    return find_strays(suspects([*OWN, *addresses], NICS), Managed(**managed), nics=NICS, node_addresses=node)


def test_every_address_a_load_balancer_names_is_managed_wherever_it_stands():
    found = addresses_in(service("10.0.0.7, 2001:DB8::7,web.example,", spec_ip="10.0.0.8", ingress=["10.0.0.9", ""]))
    assert found == {"10.0.0.7", "2001:db8::7", "10.0.0.8", "10.0.0.9"}
    assert addresses_in(service("10.0.0.7", kind="ClusterIP")) == frozenset()
    assert addresses_in(service("fe80::1%eth0," + "1" * 200)) == frozenset()


def test_a_service_is_ours_by_the_rules_of_this_daemon():
    rules = Rules(load_balancer_class="kvip")
    assert owner_of(service(), rules).ours
    assert not owner_of(service(load_balancer_class="metallb"), rules).ours


def test_a_vip_of_ours_bound_without_the_mark_is_a_stray():
    (found,) = strays(address("10.0.0.7"), now={"10.0.0.7": (OURS, THEIRS)})
    assert (found.nic, found.services) == ("eth0", (OURS,))
    assert found.reason == "is the VIP of default/web, but was not bound by kvip"


def test_an_address_of_somebody_elses_service_has_an_owner():
    assert strays(address("10.0.0.7"), now={"10.0.0.7": (THEIRS,)}, former={"10.0.0.7": OURS}, ranges=parse_ranges("10.0.0.0/24")) == []


def test_an_address_whose_service_is_gone_is_a_stray():
    (found,) = strays(address("2001:db8::7"), former={"2001:db8::7": THEIRS})
    assert found.reason == "was the VIP of default/other, which no longer has it"
    assert found.services == (THEIRS,)


def test_an_address_in_a_range_that_no_service_has_is_a_stray():
    (found,) = strays(address("10.0.0.200"), ranges=parse_ranges("192.0.2.0/24,10.0.0.128/25"))
    assert found.reason == "lies in 10.0.0.128/25, and no Service has it"
    assert strays(address("10.0.0.100"), ranges=parse_ranges("10.0.0.128/25")) == []


EVERYWHERE = parse_ranges("10.0.0.0/8,2001:db8::/32")


@pytest.mark.parametrize(
    "own",
    [
        pytest.param(address("10.0.0.9/24"), id="a subnet's prefix"),
        pytest.param(address("10.0.0.9", index=IfIndex(9)), id="another NIC"),
        pytest.param(address("10.0.0.9", peer="10.0.0.10"), id="point-to-point"),
        pytest.param(address("fe80::9"), id="link-local"),
    ],
)
def test_what_may_be_the_nodes_own_by_its_form_is_none(own):
    assert strays(own, ranges=EVERYWHERE) == []


def test_a_node_address_is_none():
    assert strays(address("10.0.0.7"), node={"10.0.0.7"}, ranges=EVERYWHERE, now={"10.0.0.7": (OURS,)}) == []


def test_the_first_address_of_a_nic_that_has_only_host_addresses_is_its_own():
    only = [address("10.0.0.1"), address("10.0.0.7"), address("2001:db8::5")]
    assert suspects(only, NICS) == [address("10.0.0.7")]
    behind = [address("10.0.0.7"), address("10.0.0.1/24")]
    assert suspects(behind, NICS) == [address("10.0.0.7")]


def test_ranges_are_parsed_and_empty_means_none():
    ranges = parse_ranges(" 10.0.0.0/24 ,2001:db8::/64,192.0.2.1")
    assert [str(network) for network in ranges] == [
        "10.0.0.0/24",
        "2001:db8::/64",
        "192.0.2.1/32",
    ]
    assert parse_ranges("") == ()


@pytest.mark.parametrize("text", ["10.0.0.1/24", "web", "0.0.0.0/0", "::/0", "224.0.0.0/4", "127.0.0.0/8", "fe80::/10", "1" * 300])
def test_a_range_that_cannot_be_used_is_named(text):
    with pytest.raises(ValueError, match=r"range"):
        parse_ranges(f"10.0.0.0/24,{text}")


def test_the_message_is_one_sentence_with_what_was_done():
    stray = Stray(address=address("10.0.0.7"), nic="eth0", reason="lies in 10.0.0.0/24, and no Service has it")
    assert stray.message == "10.0.0.7 on eth0 lies in 10.0.0.0/24, and no Service has it"
