"""What a node says of itself in its heartbeat."""

from kvip.core.facts import Facts
from kvip.core.model import Address, IfIndex
from kvip.daemon.about import describe
from tests.unit.daemon.fake_ports import ETH0, ETH1, marked


def facts(*addresses, links=(ETH0, ETH1)):
    known = Facts()
    known.links = {link.index: link for link in links}
    known.replace_all(addresses, now=0.0)
    return known


def test_the_nic_with_its_mac_and_the_subnets_of_the_nodes_own_addresses():
    own = [Address(ip="192.0.2.5", prefix_len=24, index=ETH0.index), Address(ip="2001:db8::5", prefix_len=64, index=ETH0.index)]
    elsewhere = Address(ip="198.51.100.5", prefix_len=24, index=ETH1.index)
    local = Address(ip="fe80::5", prefix_len=64, index=ETH0.index)
    (nic,) = describe(facts(*own, elsewhere, local, marked()), ["eth0"], eligible=True).nics
    assert (nic.name, nic.mac) == ("eth0", "02:00:00:00:00:01")
    assert nic.subnets == ("192.0.2.0/24", "2001:db8::/64"), "no VIP, nothing link-local, nothing of another NIC"


def test_without_the_nic_there_is_none_and_what_was_said_stands():
    about = describe(facts(links=(ETH1,)), ["eth0"], eligible=False)
    assert (about.nics, about.eligible) == ((), False)


def test_a_new_mac_is_told():
    known = facts()
    before = describe(known, ["eth0"], eligible=True)
    known.links[IfIndex(2)] = type(ETH0)(index=IfIndex(2), name="eth0", mac=b"\2\0\0\0\0\x77", up=True, carrier=True)
    assert describe(known, ["eth0"], eligible=True) != before


def test_every_nic_that_announces_is_told_with_its_own_subnets_and_no_other():
    known = facts(Address(ip="192.0.2.5", prefix_len=24, index=ETH0.index), Address(ip="198.51.100.5", prefix_len=24, index=ETH1.index))
    told = describe(known, {"eth1", "eth0", "eth7"}, eligible=True).nics
    assert [(nic.name, nic.mac, nic.subnets) for nic in told] == [
        ("eth0", "02:00:00:00:00:01", ("192.0.2.0/24",)),
        ("eth1", "02:00:00:00:00:02", ("198.51.100.0/24",)),
    ]
