"""The ways to get a Service wrong: each explanation ends with its cause, found by the daemon's own decisions."""

import msgspec
import pytest

from kvip.cli.explain_text import explanation_lines
from kvip.core.addresses import parse_networks
from kvip.core.desired import Rules
from kvip.core.diff import TENTATIVE
from kvip.core.model import Vip
from kvip.core.siting import EXCLUDE_LABEL, Endpoints
from kvip.observe.explaining import explain
from lab.knowledge import (
    ETH0,
    HEADER,
    INSTANTS,
    MINE,
    NODE,
    SETTING,
    Knowledge,
    announced,
    bound,
    elsewhere,
    node,
    permitted,
    service,
)

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
CLASS = "kube-vip.io/kube-vip-class"


def told(*services, **known):
    return explain(Knowledge(services=list(services), **known).case(), INSTANTS)


def web(*vips, **fields):
    return service("web", *(vips or (VIP,)), **fields)


def header(**fields):
    return msgspec.structs.replace(HEADER, **fields)


def step(explanation, question):
    return next(each for each in explanation.steps if each.question.startswith(question))


HERE = {VIP: announced(VIP)}
OLD = service("old", VIP, created="2026-11-27T00:00:00Z")
ON_N2 = Endpoints(any=True, nodes=frozenset({"n2"}))

WRONG = {
    "there is none": ([], {}, "there is no Service of this name"),
    "wrong class": (
        [web(spec={"load_balancer_class": "example.com/lb"})],
        {},
        "its loadBalancerClass is 'example.com/lb', and 'kube-vip.io/",
    ),
    "no class": ([web()], {"rules": Rules(load_balancer_class=CLASS, class_only=True)}, "it has no loadBalancerClass"),
    "wrong type": ([web(spec={"type": "ClusterIP"})], {}, "its type is ClusterIP"),
    "headless": ([web(spec={"cluster_ip": "None"})], {}, "it is headless"),
    "being deleted": ([web(deleted="2026-11-28T01:59:00Z")], {}, "it is being deleted since 2026-11-28T01:59:00Z"),
    "ignored": ([web(annotations={"kube-vip.io/ignore": "true"})], {}, "it has the annotation kube-vip.io/ignore=true"),
    "namespace not ours": ([web()], {"rules": Rules(load_balancer_class=CLASS, namespaces=("prod",))}, "leaves only 'prod' to kvip"),
    "outside the allowed networks": (
        [web()],
        {"rules": Rules(load_balancer_class=CLASS, allowed=parse_networks(["10.99.0.0/16"]))},
        f"{VIP}: is outside allow-cidr (10.99.0.0/16); choose one inside",
    ),
    "no address": ([service("web")], {}, "the Service names no address"),
    "no address in the list": ([service("web", annotations={"kube-vip.io/loadbalancerIPs": " , "})], {}, "lists no address"),
    "invalid address": ([web("10.10.0.2OO")], {}, "10.10.0.2OO: is not an IP address"),
    "network address": ([web("10.10.0.0")], {}, "10.10.0.0: is the network address of 10.10.0.0/24"),
    "node's own address": ([web("10.10.0.11")], {}, "10.10.0.11: is an address of this node that kvip did not add"),
    "address of another node": ([web("10.10.0.12")], {}, "10.10.0.12: is the address of a Node"),
    "gateway": ([web("10.10.0.1")], {"gateways": frozenset({Vip("10.10.0.1")})}, "10.10.0.1: is the default gateway"),
    "ipFamilies": ([web(VIP6, spec={"ip_families": ("IPv4",)})], {}, f"{VIP6}: is IPv6, and spec.ipFamilies of the Service is IPv4"),
    "port conflict": ([OLD, web()], {"happened": HERE}, f"{VIP}: port 80/TCP of it is taken by the older Service default/old"),
    "Local without endpoints": ([web(local=True)], {}, f"{VIP}: externalTrafficPolicy is Local, and it has no endpoints"),
    "Local, none ready": (
        [web(local=True)],
        {"endpoints": {"default/web": Endpoints(any=True)}},
        "externalTrafficPolicy is Local, and none of its endpoints takes traffic",
    ),
    "Local on a node that is excluded": (
        [web(local=True)],
        {"endpoints": {"default/web": ON_N2}, "nodes": {NODE: node(NODE), "n2": node("n2", **{EXCLUDE_LABEL: ""})}},
        "it asks for n2, which may hold no VIPs: its Node has the label",
    ),
    "endpoints required": (
        [web()],
        {"rules": Rules(load_balancer_class=CLASS, require_endpoints=True)},
        "it has no endpoints, and require-endpoints is set",
    ),
    "selector that nobody matches": (
        [web(annotations={"kvip.io/node-selector": "zone=b"})],
        {},
        "no Node matches its annotation kvip.io/node-selector",
    ),
    "selector without the endpoints": (
        [web(local=True, annotations={"kvip.io/node-selector": "zone=a"})],
        {"endpoints": {"default/web": ON_N2}, "nodes": {NODE: node(NODE, zone="a"), "n2": node("n2")}},
        "its endpoints are on n2, which its annotation kvip.io/node-selector leaves out",
    ),
    "selector that cannot be read": ([web(annotations={"kvip.io/node-selector": "zone in"})], {}, "it is not known where it may be held"),
    "NIC unknown": (
        [web(annotations={"kube-vip.io/serviceInterface": "eth9"})],
        {},
        "annotation kube-vip.io/serviceInterface: 'eth9' names a NIC that is not there",
    ),
    "NIC of the settings gone": ([web()], {"links": {}}, "setting interface: 'eth0' names a NIC that is not there"),
    "NIC without carrier": (
        [web()],
        {"links": {ETH0.index: msgspec.structs.replace(ETH0, carrier=False)}},
        "the NIC eth0 of n1 has no carrier",
    ),
    "no subnet": (
        [web("10.99.0.7")],
        {"setting": msgspec.structs.replace(SETTING, nic="auto", value="auto")},
        "finds no NIC with a subnet",
    ),
    "foreign host": (
        [web()],
        {"happened": {VIP: {**permitted(), "mac": b"\2\0\0\0\0\x99"}}},
        f"{VIP}: the host 02:00:00:00:00:99 has the address too; not bound until that host gives it up",
    ),
    "foreign host while held": (
        [web(shows=[VIP])],
        {"happened": {VIP: {**announced(VIP), "mac": b"\2\0\0\0\0\x99"}}},
        "it is announced here all the same, and defended",
    ),
    "on this node without the mark": (
        [web()],
        {"happened": {VIP: {"bound": bound(VIP, marked=False)}}},
        f"{VIP}: it is on eth0 of n1 without kvip's mark",
    ),
    "API away": ([web()], {"header": header(observed=False, valid_s=0.0)}, "the API server does not answer about the Leases"),
    "not synced": ([web()], {"header": header(synced={"services": False, "nodes": True})}, "services were not read yet"),
    "other mode blocks": (
        [web()],
        {"header": header(blocked="mode global holds the Lease plndr-svcs-lock; nothing is taken", valid_s=0.0)},
        "mode global holds the Lease",
    ),
    "node excluded": ([web()], {"header": header(banned="its Node is cordoned")}, "n1 holds nothing: its Node is cordoned"),
    "not this node": (
        [web(local=True)],
        {"endpoints": {"default/web": ON_N2}},
        "n1 may not hold it, only n2 may",
    ),
    "the kernel refuses": (
        [web()],
        {"happened": {VIP: {**permitted(), "failure": "errno 105"}}},
        f"{VIP}: the kernel of n1 does not bind it: errno 105",
    ),
    "rules missing": (
        [web()],
        {"happened": {VIP: {**permitted(), "exposed": True}}},
        "its firewall rules (service-security) cannot be applied",
    ),
    "duplicates looked for": (
        [web()],
        {"happened": {VIP: {**permitted(), "bound": bound(VIP, flags=TENTATIVE)}}},
        "the kernel looks for duplicates first",
    ),
    "being probed": ([web()], {"happened": {VIP: {**permitted(), "unprobed": True}}}, "the segment is being asked"),
    "nobody took it": ([web()], {}, f"{VIP}: no node has taken it yet"),
    "last holder not over": ([web()], {"happened": {VIP: {"holder": "n2_x"}}}, "its last holder, n2_x, is not known to be over yet"),
    "permit lost": ([web()], {"happened": {VIP: {"bound": bound(VIP)}}}, "n1 may not hold it now"),
    "status not written": ([web()], {"happened": HERE}, f"{VIP}: not yet: the write is on its way"),
    "holder silent": ([web()], {"happened": {VIP: elsewhere()}}, f"{VIP}: not yet: n2 has announced nothing"),
    "one of two": ([web(VIP, "fe80::7", shows=[VIP])], {"happened": HERE}, "fe80::7: is a link-local address"),
}


@pytest.mark.parametrize("way", WRONG)
def test_the_last_line_of_what_does_not_work_names_the_cause(way):
    services, known, cause = WRONG[way]
    explanation = told(*services, **known)
    assert not explanation.works
    lines = explanation_lines(explanation)
    assert lines[-1].startswith("cause: ")
    assert cause in lines[-1]
    assert lines[-2].startswith("next: ")
    assert len(lines[-2]) > len("next: nothing")


def test_a_service_that_works_is_told_from_the_class_to_the_status():
    explanation = told(web(shows=[VIP]), happened=HERE)
    assert explanation.works
    assert {each.verdict for each in explanation.steps} == {"yes"}
    assert (explanation.next, explanation.cause) == ("nothing", f"none, it works ({VIP} by n1)")
    assert step(explanation, "Is it ours").answer == "type LoadBalancer, no class"
    assert step(explanation, "Which addresses").answer == f"annotation kube-vip.io/loadbalancerIPs: {VIP}"
    assert step(explanation, "Which NIC").answer == "eth0 (setting interface)"
    assert step(explanation, "Who holds").answer == f"n1 ({MINE}), until 2026-11-28T02:00:02.400Z unless renewed"
    assert step(explanation, "Bound").answer == f"{VIP}/32 on eth0, mark 0x6b, valid until 2026-11-28T02:00:41.000Z unless refreshed"
    assert "12 times in this burst, then every 60 s" in step(explanation, "Announced").answer
    assert step(explanation, "In the Service's status").answer == "yes, ipMode VIP"


def test_what_this_node_cannot_do_is_no_cause_where_another_holds_the_vip():
    known = {"happened": {VIP: elsewhere()}, "endpoints": {"default/web": ON_N2}, "links": {}}
    explanation = told(web(local=True, shows=[VIP]), **known)
    assert explanation.works
    assert step(explanation, "Which nodes").answer == "n2; n1 may not"
    assert explanation.cause == f"none, it works ({VIP} by n2)"


def test_a_holder_that_is_no_kvip_is_called_so():
    explanation = told(web(shows=[VIP]), happened={VIP: elsewhere("n2")}, header=header(election="global"))
    assert step(explanation, "Who holds").answer == "n2, which is no kvip by its identity"


def test_an_address_of_a_killed_kube_vip_is_told_with_the_way_out():
    explanation = told(web(), local_addresses=frozenset({Vip(VIP)}))
    assert "is an address of this node that kvip did not add" in explanation.cause
    assert "kvip sweep --adopt" in explanation.next


def test_an_address_that_is_invalid_here_only_and_held_elsewhere_says_so():
    explanation = told(web(), local_addresses=frozenset({Vip(VIP)}), happened={VIP: elsewhere()})
    assert explanation.cause.endswith("not bound by n1; n2 holds it")


def test_services_that_share_an_address_are_named():
    explanation = told(OLD, web(port=81, shows=[VIP]), happened=HERE)
    assert explanation.works
    assert step(explanation, "May it have").answer == "yes, with default/old"


def test_a_status_that_is_not_to_be_written_is_no_cause():
    assert told(web(), happened=HERE, writes_status=False).works


def test_problems_that_stop_nothing_are_remarks():
    explanation = told(web(shows=[VIP], annotations={"kube-vip.io/egress": "true"}), happened=HERE)
    assert explanation.works
    assert [remark.split(":")[0] for remark in explanation.remarks] == ["NotSupported"]


def test_other_peoples_text_does_not_steer_the_terminal():
    lines = explanation_lines(told(web("\x1b[31m")))
    assert not any("\x1b" in line for line in lines)


def test_a_node_that_is_none_of_the_members_does_not_name_a_holder_that_it_cannot_know():
    explanation = told(web(shows=[VIP]), happened={VIP: {"elsewhere": True}})
    assert step(explanation, "Who holds").answer.startswith("another node may hold it: this one is none of the members")
    assert "None" not in explanation.cause
