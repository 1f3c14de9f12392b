"""Which NIC a VIP goes to: what Services and settings may say, on the NICs of machines as rtnetlink reports them."""

import pytest

from kvip.core.model import Address, IfIndex, Link, Vip
from kvip.core.placing import NicChoice, Placed, decide, place, read_choice, refusal, survey

VIP, VIP6, ELSEWHERE = Vip("192.0.2.77"), Vip("2001:db8::77"), Vip("203.0.113.7")
NIC, VLAN = "kube-vip.io/serviceInterface", "kube-vip.io/serviceVLAN"


def nic(index, name, **more):
    return Link(**{"index": IfIndex(index), "name": name, "mac": bytes([2, 0, 0, 0, 0, index]), "up": True, "carrier": True, **more})


LO = nic(1, "lo", mac=bytes(6), arp_type=772)
ETH0, ETH1 = nic(2, "eth0"), nic(3, "eth1")
# Two NICs in a bond (802.3ad), a VLAN on it, and a bridge over that VLAN, as a hypervisor has them.
SLAVE_A, SLAVE_B = nic(4, "ens1f0", master=IfIndex(6), mac=b"\2\0\0\0\0\6"), nic(5, "ens1f1", master=IfIndex(6), mac=b"\2\0\0\0\0\6")
BOND = nic(6, "bond0", kind="bond", mac=b"\2\0\0\0\0\6")
BOND_VLAN = nic(7, "bond0.200", kind="vlan", parent=IfIndex(6), vlan_id=200, mac=b"\2\0\0\0\0\6", master=IfIndex(8))
VLAN_BRIDGE = nic(8, "br200", kind="bridge")
OTHER_VLAN = nic(9, "storage", kind="vlan", parent=IfIndex(6), vlan_id=300)
HYPERVISOR = (LO, SLAVE_A, SLAVE_B, BOND, BOND_VLAN, VLAN_BRIDGE, OTHER_VLAN)


def own(ip, prefix, link):
    return Address(ip=Vip(ip), prefix_len=prefix, index=link.index)


def named(name):
    return NicChoice(source="annotation x", value=name, nic=name)


def vlan(name, number):
    return NicChoice(source="annotation x", value=f"{name}.{number}", nic=name, vlan=number)


AUTO = named("auto")


def placed(choice, *links, vip=VIP, addresses=(), preferred=""):
    return place(choice, vip, survey(links, addresses, preferred=preferred))


# -- what is written -------------------------------------------------------------------------------------------------------


def test_a_service_may_name_a_nic_or_auto_or_nothing():
    assert read_choice({}) == (None, [])
    assert read_choice({NIC: "  "}) == (None, [])
    assert read_choice({NIC: " eth1 "}) == (NicChoice(source=f"annotation {NIC}", value="eth1", nic="eth1"), [])
    choice, problems = read_choice({NIC: "auto"})
    assert choice.by_subnet
    assert problems == []


@pytest.mark.parametrize("number", [1, 200, 4094])
def test_a_vlan_is_a_nic_and_an_id(number):
    choice, problems = read_choice({VLAN: f"bond0.7.{number}"})
    assert (choice.nic, choice.vlan, problems) == ("bond0.7", number, [])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (NIC, "a/b", "no name of a NIC"),
        (NIC, "a b", "no name of a NIC"),
        (NIC, "x" * 16, "no name of a NIC"),
        (NIC, "..", "no name of a NIC"),
        (VLAN, "200", "NIC.VLANID"),
        (VLAN, "eth0", "NIC.VLANID"),
        (VLAN, "eth0.", "NIC.VLANID"),
        (VLAN, ".200", "NIC.VLANID"),
        (VLAN, "eth0.2x", "NIC.VLANID"),
        (VLAN, "eth0.-1", "NIC.VLANID"),
        (VLAN, "eth0.\u0662", "NIC.VLANID"),
        (VLAN, "eth0.0", "names VLAN 0; a VLAN's id is 1 to 4094"),
        (VLAN, "eth0.4095", "names VLAN 4095"),
        (VLAN, "auto.5", "on which NIC"),
        (VLAN, "a/b.5", "no name of a NIC"),
    ],
)
def test_what_cannot_be_read_is_told_with_key_and_value_and_moves_nothing(key, value, words):
    choice, (problem,) = read_choice({key: value})
    assert problem.reason == "InvalidAnnotation"
    assert key in problem.message
    assert repr(value) in problem.message
    assert words in problem.message
    assert placed(choice, ETH0) == Placed(known=False)


@pytest.mark.parametrize(("nic_text", "told"), [("eth0", []), ("auto", []), ("eth0.200", []), ("eth1", ["InvalidAnnotation"])])
def test_a_vlan_counts_before_a_nic_that_says_something_else(nic_text, told):
    choice, problems = read_choice({NIC: nic_text, VLAN: "eth0.200"})
    assert (choice.nic, choice.vlan) == ("eth0", 200)
    assert [problem.reason for problem in problems] == told


def test_the_oldest_that_says_anything_has_its_way():
    default, broken = named("eth0"), NicChoice(source="x", value="a/b", readable=False)
    assert decide([], default) is default
    assert decide([None, None], default) is default
    assert decide([None, named("eth1"), named("eth2")], default) == named("eth1")
    assert decide([broken], default) is broken, "nothing else is known, so nothing moves"
    assert decide([broken, named("eth1")], default) == named("eth1")
    assert decide([broken, None], default) is default


# -- where it leads --------------------------------------------------------------------------------------------------------


def test_a_named_nic_whatever_its_subnets_are():
    assert placed(named("eth1"), LO, ETH0, ETH1) == Placed(nic="eth1", index=IfIndex(3))


def test_a_nic_that_is_not_there_is_a_fault():
    assert "not there" in placed(named("eth7"), LO, ETH0).fault


@pytest.mark.parametrize("port", ["ens1f0", "ens1f1"])
def test_the_port_of_a_bond_stands_for_the_bond(port):
    assert placed(named(port), *HYPERVISOR) == Placed(nic="bond0", index=IfIndex(6), port=port)


def test_a_vlan_device_that_is_a_port_of_a_bridge_stands_for_the_bridge():
    assert placed(vlan("bond0", 200), *HYPERVISOR) == Placed(nic="br200", index=IfIndex(8), port="bond0.200")
    assert placed(named("bond0.200"), *HYPERVISOR).nic == "br200"


def test_a_vlan_device_is_found_by_its_id_whatever_its_name_and_through_the_port_of_a_bond():
    assert placed(vlan("bond0", 300), *HYPERVISOR) == Placed(nic="storage", index=IfIndex(9))
    assert placed(vlan("ens1f0", 300), *HYPERVISOR).nic == "storage"


def test_a_vlan_device_is_found_by_its_name_where_its_nic_is_in_another_namespace():
    moved = nic(9, "eth0.300", kind="vlan", vlan_id=300)
    assert placed(vlan("eth0", 300), moved).nic == "eth0.300"


def test_a_vlan_without_a_device_is_a_fault_that_says_how_to_make_it():
    assert "ip link add link eth0 name eth0.301 type vlan id 301" in placed(vlan("eth0", 301), ETH0).fault
    impostors = nic(9, "eth0.301", kind="macvlan", parent=IfIndex(2)), nic(10, "eth0.302", kind="vlan", parent=IfIndex(2), vlan_id=303)
    assert placed(vlan("eth0", 301), ETH0, *impostors).fault
    assert placed(vlan("eth0", 302), ETH0, *impostors).fault, "its name says one id, and it is another VLAN"
    assert placed(vlan("eth0", 303), ETH0, *impostors).nic == "eth0.302"


@pytest.mark.parametrize("kind", ["vlan", "macvlan", "bond", "bridge", "veth", "vxlan", "team", ""])
def test_what_is_on_top_is_itself(kind):
    assert placed(named("x0"), nic(9, "x0", kind=kind)).nic == "x0"


def test_under_a_vrf_a_nic_keeps_its_own_life():
    assert placed(named("eth0"), nic(2, "eth0", master=IfIndex(9)), nic(9, "red", kind="vrf")) == Placed(nic="eth0", index=IfIndex(2))


def test_a_port_of_open_vswitch_is_refused_and_the_bridges_own_device_is_not():
    port, datapath = nic(2, "eth0", master=IfIndex(9)), nic(9, "ovs-system", kind="openvswitch", up=False)
    assert "br" in placed(named("eth0"), port, datapath).fault
    assert placed(named("br-ex"), port, datapath, nic(10, "br-ex", kind="openvswitch")).nic == "br-ex"


def test_a_master_that_is_not_known_yet_leaves_it_open():
    assert placed(named("eth0"), nic(2, "eth0", master=IfIndex(9))) == Placed(known=False)


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (LO, "loopback"),
        (nic(2, "ib0", mac=bytes(20), arp_type=32), "IPoIB"),
        (nic(2, "tun0", mac=b"", arp_type=65534), "hardware type 65534"),
        (nic(2, "sit0", mac=bytes(4), arp_type=776), "hardware type 776"),
        (nic(2, "odd0", mac=bytes(8)), "hardware type 1"),
        (nic(2, "dummy0", kind="dummy", arp=False), "NOARP"),
        (nic(2, 'a"b'), "cannot be written"),
    ],
)
def test_a_nic_that_cannot_announce_is_refused_with_the_reason(link, words):
    assert words in refusal(link)
    assert words in placed(named(link.name), link).fault
    assert not placed(named(link.name), link).nic


def test_the_port_of_a_master_that_cannot_announce_is_refused_in_its_name():
    bond = nic(9, "bond0", kind="bond", mac=bytes(20), arp_type=32)
    fault = placed(named("ib0"), nic(2, "ib0", mac=bytes(20), arp_type=32, master=IfIndex(9)), bond).fault
    assert "port of 'bond0'" in fault
    assert "IPoIB" in fault


# -- auto ------------------------------------------------------------------------------------------------------------------


def test_auto_is_the_nic_whose_subnet_contains_the_address():
    addresses = [own("198.51.100.5", 24, ETH0), own("192.0.2.5", 24, ETH1), own("2001:db8::5", 64, ETH0)]
    assert placed(AUTO, ETH0, ETH1, addresses=addresses).nic == "eth1"
    assert placed(AUTO, ETH0, ETH1, addresses=addresses, vip=VIP6).nic == "eth0"
    assert ELSEWHERE in placed(AUTO, ETH0, ETH1, addresses=addresses, vip=ELSEWHERE).fault


def test_auto_takes_the_longest_prefix_then_the_nic_of_the_settings_then_the_lowest_index():
    wide, narrow, again = own("192.0.0.5", 16, ETH0), own("192.0.2.5", 24, ETH1), own("192.0.2.6", 24, ETH0)
    assert placed(AUTO, ETH0, ETH1, addresses=[wide, narrow]).nic == "eth1"
    assert placed(AUTO, ETH0, ETH1, addresses=[narrow, again]).nic == "eth0"
    assert placed(AUTO, ETH0, ETH1, addresses=[narrow, again], preferred="eth1").nic == "eth1"


def test_auto_knows_no_subnet_of_host_routes_or_link_local_addresses_or_nics_that_are_gone():
    local = Vip("fe80::5")
    addresses = [own(VIP, 32, ETH0), own(VIP6, 128, ETH0), own(local, 64, ETH0), own("192.0.2.5", 24, ETH1)]
    for vip in (VIP, VIP6, Vip("fe80::77")):
        assert placed(AUTO, ETH0, addresses=addresses, vip=vip).fault


def test_auto_passes_over_nics_that_cannot_announce_and_names_one_where_there_is_no_other():
    dummy = nic(1, "dummy0", arp=False)
    addresses = [own("192.0.2.5", 28, dummy), own("192.0.2.6", 24, ETH0)]
    vip = Vip("192.0.2.7")
    assert placed(AUTO, dummy, ETH0, addresses=addresses, vip=vip).nic == "eth0"
    fault = placed(AUTO, dummy, addresses=addresses, vip=vip).fault
    assert "'dummy0'" in fault
    assert "NOARP" in fault


def test_auto_leads_from_a_port_that_kept_its_address_to_its_master():
    assert placed(AUTO, *HYPERVISOR, addresses=[own("192.0.2.5", 24, SLAVE_A)]).nic == "bond0"
