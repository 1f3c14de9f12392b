"""Which ports of a VIP are let through, and the table that says so."""

import json

from hypothesis import given
from hypothesis import strategies as st

from kvip.core.annotations import IGNORE_SECURITY
from kvip.core.desired import Rules, Surroundings, interpret
from kvip.core.objects import ObjectMeta, Service, ServicePort, ServiceSpec
from kvip.core.service_rules import (
    COMMENT_BYTES,
    PROTOCOLS,
    compile_rules,
    faults,
    restriction,
)

UID1, UID2 = "11111111-54a8-4b1c-8d77-1a2b3c4d5e6f", "22222222-54a8-4b1c-8d77-1a2b3c4d5e6f"
VIP, VIP6 = "192.0.2.7", "2001:db8::7"


def service(*ports, name="web", uid=UID1, ignore=None):
    annotations = {"kube-vip.io/loadbalancerIPs": VIP, **({} if ignore is None else {IGNORE_SECURITY: ignore})}
    return Service(
        metadata=ObjectMeta(name=name, namespace="default", uid=uid, annotations=annotations),
        spec=ServiceSpec(type="LoadBalancer", ports=tuple(ServicePort(protocol=protocol, port=port) for protocol, port in ports)),
    )


def openings(allowed):
    return [(protocol, port, owner.uid) for protocol, port, owner in allowed.openings]


def document(restrictions, nics=("eth0",)):
    return json.loads(compile_rules(restrictions, nics=nics).document)["nftables"]


def sets(restrictions, nics=("eth0",)):
    found = [entry["add"]["set"] for entry in document(restrictions, nics) if "set" in entry.get("add", {})]
    return {each["name"]: each.get("elem", []) for each in found}


def test_the_ports_of_all_services_that_share_the_address_are_let_through_with_the_protocol_they_name():
    both = restriction([service(("TCP", 80), ("UDP", 80)), service(("SCTP", 5000), name="other", uid=UID2)])
    assert openings(both) == [("sctp", 5000, UID2), ("tcp", 80, UID1), ("udp", 80, UID1)]
    assert [owner.uid for owner in both.owners] == [UID2, UID1]


def test_a_port_that_two_services_name_is_let_through_once():
    assert openings(restriction([service(("TCP", 80)), service(("TCP", 80), name="a", uid=UID2)])) == [("tcp", 80, UID2)]


def test_one_exempt_service_opens_the_address_for_all_and_an_unclear_word_does_not():
    assert restriction([service(("TCP", 80)), service(name="b", uid=UID2, ignore=" True ")]) is None
    for word in ("false", "", "yes", "1", "true,true"):
        assert restriction([service(("TCP", 80), ignore=word)]) is not None


def test_a_service_without_ports_or_none_at_all_lets_no_port_through():
    assert openings(restriction([service()])) == []
    assert restriction([]) is not None


def test_the_order_in_which_services_are_given_makes_no_difference():
    two = [service(("TCP", 80)), service(("TCP", 80), ("TCP", 81), name="b", uid=UID2)]
    assert restriction(two) == restriction(reversed(two))


def test_ports_that_no_rule_can_name_stay_closed_and_are_told_with_the_annotation_that_says_nothing():
    odd = service(("TCP", 70000), ("TCP", 0), ("QUIC", 443), ("TCP", 80), ignore="yes please")
    assert openings(restriction([odd])) == [("tcp", 80, UID1)]
    told = faults(odd)
    assert len(told) == 4
    assert "'yes please'" in told[0]
    assert IGNORE_SECURITY in told[0]
    assert ["70000/TCP" in told[1], "0/TCP" in told[2], "443/QUIC" in told[3]] == [True] * 3
    assert faults(service(("TCP", 80), ignore="true")) == ()


def test_faults_are_problems_of_the_service_only_where_service_security_is_on():
    odd = service(("TCP", 80), ignore="maybe")
    for on, reasons in ((True, ["ServiceSecurity"]), (False, [])):
        wish = interpret(odd, Rules(load_balancer_class="x", service_security=on), Surroundings())
        assert [problem.reason for problem in wish.problems] == reasons
        assert wish.addresses == (VIP,)


def test_every_element_of_a_service_carries_its_uid_and_name():
    listed = sets({VIP: restriction([service(("TCP", 80))]), VIP6: restriction([service(("UDP", 53))])})
    for name in ("vips4", "vips6", "ports4", "ports6"):
        assert [element["elem"]["comment"] for element in listed[name]] == [f"{UID1} default/web"]


def test_a_shared_address_carries_the_uids_of_its_services_as_far_as_there_is_room():
    many = [service(("TCP", 80 + number), name=f"s{number}", uid=f"{number}" * 36) for number in range(5)]
    (element,) = sets({VIP: restriction(many)})["vips4"]
    assert element["elem"]["comment"] == " ".join(f"{number}" * 36 for number in range(3)) + " +2"
    assert len(element["elem"]["comment"]) <= COMMENT_BYTES


def test_the_whole_table_is_replaced_and_without_a_vip_there_is_none():
    kinds = [(next(iter(entry)), next(iter(next(iter(entry.values()))))) for entry in document({VIP: restriction([service()])})]
    assert kinds[:3] == [("add", "table"), ("delete", "table"), ("add", "table")]
    empty = compile_rules({}, nics=("eth0",))
    assert [next(iter(entry)) for entry in json.loads(empty.document)["nftables"]] == ["add", "delete"]
    assert empty.sizes == {}


def test_the_sizes_are_those_of_the_sets():
    rules = compile_rules({VIP: restriction([service(("SCTP", 258), ("TCP", 1))]), VIP6: restriction([])}, nics=("eth0", "eth1"))
    assert rules.sizes == {"nics": 2, "vips4": 1, "vips6": 1, "ports4": 2, "ports6": 0}


any_port = st.builds(
    ServicePort, protocol=st.one_of(st.sampled_from(["TCP", "UDP", "SCTP"]), st.text(max_size=8)), port=st.integers(-5, 70_000)
)
any_service = st.builds(
    Service,
    metadata=st.builds(
        ObjectMeta,
        name=st.text(max_size=80),
        namespace=st.text(max_size=80),
        uid=st.text(max_size=40),
        annotations=st.one_of(st.none(), st.dictionaries(st.just(IGNORE_SECURITY), st.text(max_size=80))),
    ),
    spec=st.builds(ServiceSpec, ports=st.one_of(st.none(), st.lists(any_port, max_size=6).map(tuple))),
)


@given(st.lists(any_service, max_size=4))
def test_whatever_services_say_the_table_has_only_ports_and_comments_that_nft_can_read(services):
    allowed = restriction(services)
    for each in services:
        faults(each)
    if allowed is None:
        assert any(" ".join((each.metadata.annotations or {}).values()).strip().lower() == "true" for each in services)
        return
    asked = {(port.protocol.lower(), port.port) for each in services for port in each.spec.ports or ()}
    for name, elements in sets({VIP: allowed}).items():
        for element in elements:
            value, comment = (element["elem"]["val"], element["elem"]["comment"]) if isinstance(element, dict) else (element, "x")
            assert comment.isascii()
            assert comment.isprintable()
            assert '"' not in comment
            assert 0 < len(comment) <= COMMENT_BYTES
            if name == "ports4" and "concat" in value:
                _, protocol, port = value["concat"]
                assert (protocol, port) in asked
                assert protocol in PROTOCOLS
                assert 0 < port < 65_536


def test_a_table_takes_over_what_is_the_same_in_the_one_before_and_remembers_nothing_else():
    rules = compile_rules({VIP6: restriction([service(("TCP", 1))])}, nics=("eth0",))
    for number in range(20):
        vip = f"192.0.2.{number}"
        wanted = {vip: restriction([service(("TCP", 80), uid=f"fresh-{number}")]), VIP6: restriction([service(("TCP", 1))])}
        before, rules = rules, compile_rules(wanted, nics=("eth0",), before=rules)
        assert rules.document == compile_rules(wanted, nics=("eth0",)).document
        assert rules.pieces[VIP6] is before.pieces[VIP6]
    assert rules.pieces.keys() == {vip, VIP6}
