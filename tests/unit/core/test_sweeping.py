"""What a sweep takes and what it leaves: words, the node's own addresses, leftovers and adoption."""

import pytest

from kvip.core.model import MARK_PROTO, Address, IfIndex, Link
from kvip.core.sweeping import Also, Host, Named, judge_adoption, judge_named, leftovers, parse_also, parse_vips, taken_along

ETH0, ETH1, DUMMY, LO = IfIndex(2), IfIndex(3), IfIndex(4), IfIndex(1)
LINKS = {
    LO: Link(index=LO, name="lo", mac=bytes(6), up=True, carrier=True, arp_type=772),
    ETH0: Link(index=ETH0, name="eth0", mac=bytes(6), up=True, carrier=True),
    ETH1: Link(index=ETH1, name="eth1", mac=bytes(6), up=True, carrier=True),
    DUMMY: Link(index=DUMMY, name="kube-ipvs0", mac=bytes(6), up=True, carrier=True, kind="dummy"),
}
FOREVER, SECONDARY, DEPRECATED = 0x80, 0x01, 0x20


def address(text, index=ETH0, **fields):
    ip, _, prefix = text.partition("/")
    return Address(ip=ip, prefix_len=int(prefix or (128 if ":" in ip else 32)), index=index, **{"flags": FOREVER, **fields})


def host(*addresses, promoting=()):
    return Host(addresses=addresses, links=LINKS, default_nic="eth0", promoting=frozenset(promoting))


OWN = address("10.0.0.1/24")
VIP = address("10.0.0.7")


def named(text):
    return parse_also(text).addresses[0]


def test_words_are_addresses_groups_and_tables():
    also = parse_also(" 10.0.0.7, 2001:DB8::1/128@eth0 ,kube-vip-iptables,nft:ip:kube_vip_v4,10.0.0.7,")
    assert also == Also(
        addresses=(Named(ip="10.0.0.7"), Named(ip="2001:db8::1", prefix_len=128, nic="eth0")),
        words=frozenset({"kube-vip-iptables", "nft:ip:kube_vip_v4"}),
    )
    assert parse_vips("10.0.0.7, 2001:DB8::1") == {"10.0.0.7", "2001:db8::1"}


@pytest.mark.parametrize(
    "text", ["everything", "10.0.0.0/33", "10.0.0.7/x", "fe80::1%eth0", "nft:ip", "nft:foo:bar", "10.0.0", "/24", "1" * 99]
)
def test_a_word_that_means_nothing_is_named_in_the_error(text):
    with pytest.raises(ValueError, match=r"address|prefix"):
        parse_also(f"10.0.0.7,{text}")


@pytest.mark.parametrize("family", ["arp", "inet", "netdev"])
def test_kvips_own_tables_cannot_be_named(family):
    with pytest.raises(ValueError, match="kvip's own"):
        parse_also(f"nft:{family}:kvip")


def test_a_named_host_address_beside_the_nodes_own_is_taken():
    assert judge_named(named("10.0.0.7"), host(OWN, VIP)).address == VIP
    assert judge_named(named("10.0.0.7"), host(OWN, VIP)).refusal == ""


def test_what_is_not_here_is_neither_taken_nor_refused():
    verdict = judge_named(named("10.0.0.8"), host(OWN, VIP))
    assert (verdict.address, verdict.refusal) == (None, "")


def test_the_same_address_elsewhere_is_told_not_taken():
    verdict = judge_named(named("10.0.0.7@eth1"), host(OWN, VIP))
    assert verdict.address is None
    assert "10.0.0.7/32@eth0" in verdict.refusal


def test_an_address_on_two_nics_must_be_named_with_its_nic():
    both = host(OWN, VIP, address("10.0.0.7", ETH1))
    verdict = judge_named(named("10.0.0.7"), both)
    assert verdict.address is None
    assert "10.0.0.7/32@eth0, 10.0.0.7/32@eth1" in verdict.refusal
    assert judge_named(named("10.0.0.7@eth1"), both).address.index == ETH1


def test_an_address_with_a_subnets_prefix_is_refused_unless_named_in_full():
    assert "10.0.0.1/24" in judge_named(named("10.0.0.1"), host(OWN)).refusal
    assert judge_named(named("10.0.0.1/24"), host(OWN)).refusal == ""


@pytest.mark.parametrize("only", [address("10.0.0.1"), address("2001:db8::5")])
def test_the_only_address_of_the_default_routes_nic_is_refused_unless_named_in_full(only):
    alone = host(only, address("fe80::1/64"), address("10.0.0.9", proto=MARK_PROTO), address("2001:db8::9", proto=MARK_PROTO))
    assert "only address of eth0" in judge_named(Named(ip=only.ip), alone).refusal
    assert judge_named(Named(ip=only.ip, prefix_len=only.prefix_len), alone).refusal == ""
    elsewhere = host(address(only.ip, ETH1))
    assert judge_named(Named(ip=only.ip), elsewhere).refusal == ""


@pytest.mark.parametrize("text", ["127.0.0.1/8", "::1/128", "fe80::1/64"])
def test_loopback_and_link_local_are_refused_even_in_full(text):
    there = address(text, ETH0 if text.startswith("fe80") else LO)
    assert judge_named(named(text), host(there)).refusal


def test_what_the_kernel_would_delete_with_it_refuses_it():
    left, own = address("10.0.0.7/24", flags=FOREVER | DEPRECATED), address("10.0.0.1/24", flags=FOREVER | SECONDARY)
    assert taken_along(left, host(left, own)) == [own]
    verdict = judge_named(named("10.0.0.7/24"), host(left, own))
    assert "10.0.0.1/24" in verdict.refusal
    assert "promote_secondaries" in verdict.refusal
    assert judge_named(named("10.0.0.7/24"), host(left, own, promoting=[ETH0])).refusal == ""


def test_nothing_goes_along_with_a_secondary_another_subnet_or_a_host_address():
    own = address("10.0.0.1/24")
    second = address("10.0.0.7/24", flags=FOREVER | SECONDARY)
    other = address("10.0.1.1/24", flags=FOREVER | SECONDARY)
    everything = host(own, second, other, VIP, address("2001:db8::1/64"))
    assert taken_along(second, everything) == []
    assert taken_along(VIP, everything) == []
    assert taken_along(own, everything) == [second]
    assert taken_along(address("2001:db8::1/64"), everything) == []


def test_a_marked_address_is_no_matter_of_names():
    marked = address("10.0.0.7", proto=MARK_PROTO)
    assert judge_named(named("10.0.0.7"), host(OWN, marked)).address is None


def test_leftovers_are_host_addresses_beside_another_and_deprecated_ones():
    wide = address("10.0.0.8/24", flags=FOREVER | DEPRECATED)
    here = host(
        OWN,
        VIP,
        wide,
        address("10.0.0.9", proto=MARK_PROTO),
        address("10.244.0.0", ETH1),
        address("10.96.0.1", DUMMY),
        address("127.0.0.1/8", LO),
        address("10.0.0.3", peer="10.0.0.4"),
    )
    assert leftovers(here) == [VIP, wide]


def test_g4_only_host_addresses_of_named_vips_on_a_real_nic_are_adopted():
    vips = [f"10.0.0.{n}" for n in range(1, 20)]
    wide = address("10.0.0.8/24")
    proxied = address("10.0.0.7", DUMMY)
    here = host(OWN, VIP, wide, proxied, address("10.0.0.9", proto=MARK_PROTO), address("10.9.9.9"), address("10.0.0.10", peer="10.0.0.11"))
    verdicts = {host().word(v.address): v.refusal for v in judge_adoption(here, vips)}
    assert verdicts.pop("10.0.0.7/32@eth0") == ""
    assert set(verdicts) == {"10.0.0.1/24@eth0", "10.0.0.8/24@eth0", "10.0.0.7/32@kube-ipvs0", "10.0.0.10/32@eth0"}
    assert all(verdicts.values())
    assert "/32 only" in verdicts["10.0.0.8/24@eth0"]


def test_g4_a_nodes_only_address_is_never_adopted():
    (verdict,) = judge_adoption(host(address("10.0.0.1")), ["10.0.0.1"])
    assert "this node's own" in verdict.refusal
