"""The switch's text and map elements, without a kernel."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.model import Vip, packed
from kvip.core.ruleset import OTHERS, PRIMARY, SILENT, Place, check_group, check_nic, document, place_of, verdicts

NICS = ("eth0", "br-lan")
GROUPS = ("main", "second")
V4, V6 = Vip("192.0.2.7"), Vip("2001:db8::7")
PLACES = (Place(SILENT), Place(SILENT, "eth9"), Place(OTHERS), Place("main", "eth0"), Place("second", "br-lan"))


def text(**changes: object) -> str:
    options = {"nics": NICS, "groups": GROUPS, "places": {}, "hooked": NICS} | changes
    return document(**options)  # type: ignore[arg-type]


def rules_of(document_text: str, chain: str, table: str) -> list[str]:
    body = document_text.split(f"table {table} kvip {{")[1]
    found = re.search(rf"  chain {chain} \{{\n(.*?)\n  \}}", body, re.DOTALL)
    assert found is not None
    return [line.strip() for line in found[1].splitlines()]


@pytest.mark.parametrize("vip", [V4, V6])
@pytest.mark.parametrize("place", PLACES)
def test_k1_a_vip_stands_once_in_each_map_and_its_place_can_be_read_back(vip: Vip, place: Place):
    found = verdicts(vip, place, NICS)
    assert len({(verdict.family, verdict.map) for verdict in found}) == len(found)
    assert {verdict.key for verdict in found} == {packed(vip)}
    (primary,) = [verdict for verdict in found if (verdict.family, verdict.map) == PRIMARY[vip == V6]]
    read = place_of(primary.chain, GROUPS, NICS)
    assert read is not None
    assert read.group == place.group
    assert place.group in (SILENT, OTHERS) or read.nic == place.nic


@pytest.mark.parametrize("vip", [V4, V6])
@pytest.mark.parametrize("place", PLACES)
def test_k1_every_chain_that_a_vip_goes_to_is_in_its_table(vip: Vip, place: Place):
    whole = text()
    for verdict in verdicts(vip, place, NICS):
        assert rules_of(whole, verdict.chain, verdict.family)


def test_k2_a_silent_vip_is_dropped_in_every_map_of_its_family():
    assert {(verdict.family, verdict.chain) for verdict in verdicts(V4, Place(SILENT), NICS)} == {
        ("arp", "silent"), ("inet", "silent"), ("netdev", "silent")
    }  # fmt: skip
    assert {verdict.family for verdict in verdicts(V6, Place(SILENT), NICS)} == {"inet", "netdev"}


def test_k6_packets_of_others_meet_no_rule():
    assert [(verdict.family, verdict.chain) for verdict in verdicts(V4, Place(OTHERS), NICS)] == [("arp", "elsewhere")]
    assert [(verdict.family, verdict.chain) for verdict in verdicts(V6, Place(OTHERS), NICS)] == [("inet", "others")]
    assert rules_of(text(), "others", "inet")[-1] == "accept"


def test_k1_a_vip_that_is_nowhere_has_no_element():
    assert verdicts(V4, None, NICS) == []


def test_k1_a_group_on_a_nic_without_rules_is_refused():
    with pytest.raises(ValueError):
        verdicts(V4, Place("main", "eth9"), NICS)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20, unique=True))
def test_k5_all_vips_are_in_the_document_that_installs(numbers: list[int]):
    vips = [Vip(".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))) for number in numbers]
    whole = text(places=dict.fromkeys(vips, Place(SILENT, "eth0")))
    for vip in vips:
        assert whole.count(f" {vip} : goto silent") == 3


def test_k5_ipv6_vips_are_in_it_too():
    assert text(places={V6: Place(SILENT)}).count("0x20010db8000000000000000000000007 : goto silent") == 2


def test_k1_the_document_replaces_three_tables_of_ours_and_names_no_other():
    lines = text().splitlines()
    assert lines[:6] == [f"{verb} table {family} kvip" for family in ("arp", "inet", "netdev") for verb in ("add", "delete")]
    assert {line for line in lines if line.startswith("table")} == {f"table {family} kvip {{" for family in ("arp", "inet", "netdev")}


def test_k7_no_table_has_an_owner():
    assert "owner" not in text()


@pytest.mark.parametrize("table", ["arp", "inet", "netdev"])
def test_k4_a_group_that_is_not_alive_drops(table: str):
    assert rules_of(text(), "group_second", table) == ["meta mark and 0x0 @alive_second accept", "drop"]


def test_k2_an_egress_hook_is_made_for_hooked_nics_only():
    assert "egress_0" not in text(hooked=["br-lan"])
    assert rules_of(text(hooked=["br-lan"]), "egress_1", "netdev")[0] == 'type filter hook egress device "br-lan" priority 0;'


def test_without_nics_no_packet_is_looked_at():
    assert "prerouting" not in text(nics=(), hooked=())


@pytest.mark.parametrize("name", ['a"b', "eth*", "a b", "", "a" * 16, "a\nb", "x/y", "back\\slash"])
def test_a_nic_that_cannot_be_quoted_is_refused(name: str):
    with pytest.raises(ValueError, match="NIC"):
        text(nics=(name,), hooked=())


@pytest.mark.parametrize("name", ["eth0.100", "br-lan", "eth0:1", "wlp3s0", "ens@1"])
def test_usual_nics_are_taken(name: str):
    assert check_nic(name) == name


@pytest.mark.parametrize("group", ["", "Main", "1st", "a-b", "a b", SILENT, OTHERS, "g" * 49])
def test_a_group_that_cannot_name_a_chain_is_refused(group: str):
    with pytest.raises(ValueError, match="lease group"):
        check_group(group)


def test_a_chain_of_someone_else_is_no_place():
    assert place_of("docker", GROUPS, NICS) is None
