"""Every finding: the facts that make it, what it says, and how close facts may come without making it."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

import kvip.core.doctor
from kvip.core.doctor.facts import ForeignRules, Keeping, Pod, Right
from kvip.core.doctor.judge import judge, seen
from kvip.core.model import Vip
from kvip.core.objects import Lease, LeaseSpec, NodeAddress, NodeStatus, ObjectMeta
from kvip.core.siting import EXCLUDE_LABEL
from kvip.core.strays import Owner
from tests.unit.core.doctor import recorded
from tests.unit.core.doctor.recorded import (
    ETH0,
    ETH1,
    HEALTHY,
    OWN,
    VIP,
    WEB,
    host,
    left,
    on,
    with_addresses,
    with_links,
    with_settings,
)

MODULES = sorted(Path(kvip.core.doctor.__file__).parent.glob("*.py"))
RENEWED_AT = datetime(2026, 11, 28, 1, tzinfo=UTC)
CHECKS = {name for path in MODULES for name in re.findall(r'check="([a-z0-9-]+)"', path.read_text())}


def notes(**annotations):
    return ObjectMeta(name="n1", annotations=annotations)


def lease(holder):
    return (
        Lease(
            metadata=ObjectMeta(name="plndr-svcs-lock"), spec=LeaseSpec(holder_identity=holder, renew_time="2026-11-28T01:00:00.000000Z")
        ),
    )


def pod(*images, **environment):
    return (Pod(key="x/y", images=images, environment=environment),)


CALI = msgspec.structs.replace(ETH1, name="cali0123456789a")
CILIUM = msgspec.structs.replace(ETH1, name="cilium_host")
DENIED = Right(namespace="kube-system", group="coordination.k8s.io", resource="leases", verb="update")
BEHIND = recorded.two_nics()
BY_NETWORKD = Keeping(file="/run/systemd/network/10-netplan-eth0.network")

MADE = [
    ("kernel-no-mark", "problem", host(release="5.15.0-91-generic"), ["5.15.0", "5.18"]),
    ("no-nf-tables", "problem", host(switch_problem="the program nft is missing"), ["nft is missing", "refuses to start"]),
    ("no-nf-tables", "note", with_settings(host(switch_problem="x"), switch=False), ["off by choice"]),
    ("clock-off", "note", host(clock_synchronised=False), ["not synchronised"]),
    ("clock-off", "problem", recorded.cluster(skew_s=-120.0), ["120 s ahead of"]),
    ("clock-off", "problem", recorded.cluster(skew_s=61.0), ["61 s behind"]),
    ("nic-missing", "problem", with_settings(HEALTHY, interface="eth7"), ["'eth7'", "not there"]),
    ("nic-missing", "problem", recorded.net(default_nic=""), ["no default route"]),
    ("nic-missing", "problem", with_settings(HEALTHY, interface="lo"), ["'lo'", "loopback"]),
    ("nic-down", "problem", with_links(msgspec.structs.replace(ETH0, carrier=False)), ["eth0", "no carrier"]),
    ("nic-down", "problem", with_links(msgspec.structs.replace(ETH0, up=False)), ["eth0 is down", "ip link set dev eth0 up"]),
    (
        "nic-mac-shared",
        "problem",
        recorded.cluster(leases=(recorded.heartbeat_of("n2", "02:00:00:00:00:01"),)),
        ["02:00:00:00:00:01", "node n2"],
    ),
    ("arp-never-answered", "problem", host(sysctls=recorded.sysctl("all", arp_ignore=8)), ["arp_ignore is 8 on eth0"]),
    ("arp-on-other-nics", "problem", with_settings(BEHIND, switch=False), ["eth1", "switch"]),
    (
        "rp-filter-strict",
        "problem",
        with_settings(recorded.two_nics(sysctls=recorded.sysctl("eth1", rp_filter=1)), interface="eth1"),
        ["eth1", "default route leaves by eth0", "sysctl -w net.ipv4.conf.eth1.rp_filter=2"],
    ),
    (
        "ipvs-no-strict-arp",
        "problem",
        recorded.ipvs(),
        ["kube-ipvs0 has 1 address(es)", "arp_ignore is 0 and arp_announce is 0 on eth0", "strictARP"],
    ),
    ("ipvs-no-strict-arp", "problem", recorded.ipvs(sysctls=recorded.sysctl("all", arp_ignore=1)), ["arp_announce is 0 on eth0"]),
    (
        "stale-address",
        "problem",
        with_addresses(left()),
        ["10.10.0.200/32 on eth0", "default/web", "kvip sweep --adopt --vips 10.10.0.200"],
    ),
    (
        "looks-left",
        "note",
        with_addresses(left(Vip("10.10.0.77"))),
        ["10.10.0.77/32 on eth0", "no Service has it", "kvip sweep --adopt --vips 10.10.0.77"],
    ),
    (
        "kvip-left",
        "problem",
        on(with_addresses(left(marked=True)), daemon_runs=False),
        ["10.10.0.200/32 on eth0", "kvip sweep"],
    ),
    (
        "kube-vip-rules",
        "problem",
        host(foreign_rules=(ForeignRules(word="kube-vip-iptables", count=3), ForeignRules(word="nft:ip:kube_vip_v4", count=1))),
        ["4 firewall rules", "kvip sweep --also kube-vip-iptables,nft:ip:kube_vip_v4"],
    ),
    ("kube-vip-rules", "note", host(foreign_rules=(ForeignRules(word="w", count=1),), programs=None), ["cannot be seen"]),
    ("other-announcer", "problem", host(programs=frozenset({"kube-vip"})), ["kube-vip runs on this node as a process", "delete daemonset"]),
    (
        "other-announcer",
        "problem",
        recorded.cluster(pods=pod("quay.io/metallb/speaker:v0.14.8")),
        ["MetalLB", "Pod x/y", "KVIP_CLASS_ONLY"],
    ),
    ("other-announcer", "problem", recorded.cluster(pods=pod("registry.gitlab.com/purelb/purelb/lbnodeagent@sha256:0")), ["PureLB"]),
    ("other-announcer", "problem", recorded.cluster(pods=pod("rancher/klipper-lb:v0.4.9")), ["k3s ServiceLB"]),
    ("other-announcer", "note", host(programs=frozenset({"keepalived"})), ["keepalived", "virtual_ipaddress"]),
    ("other-announcer", "note", with_settings(host(programs=frozenset({"kube-vip"})), election="global"), ["shares kube-vip's Leases"]),
    ("other-announcer", "note", with_settings(host(programs=frozenset({"speaker"})), class_only=True), ["its own class"]),
    (
        "shared-lease-held",
        "note",
        msgspec.structs.replace(recorded.cluster(leases=lease("n2")), looked_at=RENEWED_AT + timedelta(minutes=11)),
        ["stands still", "delete lease plndr-svcs-lock"],
    ),
    (
        "shared-lease-held",
        "problem",
        msgspec.structs.replace(recorded.cluster(leases=lease("n2")), looked_at=RENEWED_AT + timedelta(minutes=9)),
        ["2026-11-28T01:00:00.000000Z", "KVIP_ELECTION=global"],
    ),
    ("shared-lease-held", "problem", recorded.cluster(leases=lease("n2")), ["kube-system/plndr-svcs-lock", "'n2'", "claims"]),
    ("cni-took-vip", "problem", recorded.node(metadata=notes(**{"flannel.alpha.coreos.com/public-ip": VIP})), ["flannel takes", "node n1"]),
    ("cni-took-vip", "problem", recorded.node(metadata=notes(**{"projectcalico.org/IPv4Address": f"{VIP}/32"})), ["Calico", "default/web"]),
    (
        "node-address-is-vip",
        "problem",
        recorded.node(status=NodeStatus(addresses=(NodeAddress(type="InternalIP", address=VIP),))),
        [f"InternalIP {VIP} of node n1", "default/web", "--node-ip"],
    ),
    ("vip-comes-first", "problem", recorded.net(addresses=(left(marked=True), OWN)), ["10.10.0.200/32", "eth0", "delete pod"]),
    ("calico-autodetection", "note", with_links(ETH0, CALI), ["cannot be seen", "IP_AUTODETECTION_METHOD"]),
    ("cilium-before-nf-tables", "note", with_links(ETH0, CILIUM), ["tc ingress of eth0", "known limit"]),
    ("cilium-before-nf-tables", "problem", with_settings(with_links(ETH0, CILIUM), service_security=True), ["filters nothing"]),
    (
        "networkd-drops",
        "note",
        host(networkd={"eth0": BY_NETWORKD}),
        ["KeepConfiguration=no", "/etc/systemd/network/10-netplan-eth0.network.d"],
    ),
    (
        "network-manager-drops",
        "note",
        host(network_manager=frozenset({"eth0"}), programs=frozenset({"NetworkManager"})),
        ["NetworkManager manages eth0", "nmcli"],
    ),
    ("node-unknown", "problem", recorded.cluster(nodes=()), ["no Node 'n1'", "KVIP_NODE_NAME"]),
    ("node-excluded", "note", recorded.node(metadata=ObjectMeta(name="n1", labels={EXCLUDE_LABEL: ""})), [EXCLUDE_LABEL]),
    (
        "rights-missing",
        "problem",
        recorded.cluster(asked=(DENIED,), denied=(DENIED,)),
        ["serviceaccount:kube-system:kvip", "update leases.coordination.k8s.io in namespace kube-system", "kvip manifest rbac"],
    ),
]


def test_a_healthy_node_has_no_finding():
    assert judge(HEALTHY) == []


@pytest.mark.parametrize(("check", "level", "facts", "words"), MADE, ids=[f"{check}-{level}" for check, level, *_ in MADE])
def test_the_finding_is_made_alone_and_says_what_why_and_how(check, level, facts, words):
    (finding,) = judge(facts)
    assert (finding.check, finding.level) == (check, level)
    text = f"{finding.what} {finding.why} {finding.mend}"
    assert [word for word in words if word not in text] == []
    assert finding.why
    assert finding.mend


def test_every_check_is_made_here():
    assert {check for check, *_ in MADE} == CHECKS


NOT_MADE = {
    "5.18 keeps marks": host(release="5.18.0"),
    "a release that cannot be read": host(release="mainline"),
    "the clocks differ by a minute": recorded.cluster(skew_s=60.0),
    "another node's MAC": recorded.cluster(leases=(recorded.heartbeat_of("n2", "02:00:00:00:00:02"),)),
    "one's own heartbeat": recorded.cluster(leases=(recorded.heartbeat_of("n1", "02:00:00:00:00:01"),)),
    "arp_ignore 1 without the switch": with_settings(
        recorded.two_nics(sysctls=recorded.sysctl("all", arp_ignore=1)),
        switch=False,
    ),
    "strict rp_filter on the NIC of the default route": host(sysctls=recorded.sysctl("eth0", rp_filter=1)),
    "loose rp_filter": with_settings(
        recorded.two_nics(sysctls=recorded.sysctl("eth1", rp_filter=2)),
        interface="eth1",
    ),
    "strictARP": recorded.ipvs(sysctls=recorded.sysctl("all", arp_ignore=1, arp_announce=2)),
    "a VIP that kvip bound": with_addresses(left(marked=True)),
    "the VIP of a Service of another daemon": msgspec.structs.replace(
        recorded.cluster(vips={VIP: (msgspec.structs.replace(WEB, ours=False),)}), host=with_addresses(left()).host
    ),
    "the Lease of global, in global": with_settings(recorded.cluster(leases=lease("n2")), election="global"),
    "the Lease of global, given back": recorded.cluster(leases=lease("")),
    "Calico with a method": msgspec.structs.replace(
        with_links(ETH0, CALI),
        cluster=recorded.cluster(pods=pod("docker.io/calico/node:v3.29.1", IP_AUTODETECTION_METHOD="kubernetes-internal-ip")).cluster,
    ),
    "an image of a like name": recorded.cluster(pods=pod("registry:5000/my-kube-vip:1", "quay.io/metallb/controller:v0.14.8")),
    "networkd that keeps": host(networkd={"eth0": msgspec.structs.replace(BY_NETWORKD, keep="static")}),
    "networkd's state left behind": host(networkd={"eth0": BY_NETWORKD}, programs=frozenset()),
    "NetworkManager's state left behind": host(network_manager=frozenset({"eth0"}), programs=frozenset()),
    "an excluded node by option": with_settings(
        recorded.node(metadata=ObjectMeta(name="n1", labels={EXCLUDE_LABEL: ""})), exclude_label=False
    ),
    "no API server": msgspec.structs.replace(HEALTHY, cluster=None),
}


@pytest.mark.parametrize("case", NOT_MADE)
def test_what_is_as_it_should_be_is_no_finding(case):
    assert judge(NOT_MADE[case]) == []


def test_problems_come_before_notes():
    facts = host(clock_synchronised=False, release="5.4.0")
    assert [finding.level for finding in judge(facts)] == ["problem", "note"]


def test_a_stale_address_is_told_by_the_journal_where_the_api_server_is_silent():
    former = {VIP: Owner(service="default/web", uid=WEB.uid)}
    facts = msgspec.structs.replace(with_addresses(left()), cluster=None)
    facts = on(facts, former=former, daemon_runs=False)
    (finding,) = judge(facts)
    assert finding.check == "stale-address"
    assert "no longer" not in finding.why
    assert finding.mend == "kvip sweep --also 10.10.0.200/32@eth0"


def test_a_service_that_is_gone_is_told_so():
    facts = msgspec.structs.replace(recorded.cluster(vips={}), host=with_addresses(left()).host)
    facts = msgspec.structs.replace(
        facts, host=msgspec.structs.replace(facts.host, former={VIP: Owner(service="default/web", uid=WEB.uid)})
    )
    (finding,) = judge(facts)
    assert "which no longer has it" in finding.why


def test_a_port_stands_for_its_bridge():
    bridge = msgspec.structs.replace(ETH1, name="br0", kind="bridge", carrier=False)
    facts = with_settings(with_links(msgspec.structs.replace(ETH0, master=bridge.index), bridge), interface="eth0")
    (finding,) = judge(facts)
    assert "br0 is up, but has no carrier" in finding.what


def test_auto_means_every_nic_with_a_subnet():
    facts = with_settings(recorded.two_nics(sysctls={}), services_interface="auto")
    assert [state.split(",")[0] for subject, state in seen(facts) if subject == "nic"] == ["eth0", "eth1"]
    assert judge(with_settings(with_links(addresses=()), services_interface="auto"))[0].what.startswith("no NIC has an address")


def test_a_nic_that_has_only_vips_can_be_taken_from_network_manager():
    facts = with_settings(with_links(ETH0, ETH1), interface="eth1")
    facts = on(facts, network_manager=frozenset({"eth1"}), programs=frozenset({"NetworkManager"}))
    (finding,) = judge(facts)
    assert finding.mend.startswith("nmcli device set eth1 managed no")


def test_many_denied_rights_are_named_in_part_and_counted():
    rights = tuple(Right(namespace="", group="", resource=f"r{number}", verb="get") for number in range(8))
    (finding,) = judge(recorded.cluster(asked=rights, denied=rights))
    assert "get r4 in all namespaces and 3 more" in finding.what


def test_what_was_seen_is_said_and_what_was_not_is_left_out():
    rows = dict(seen(HEALTHY))
    assert rows["nic"] == "eth0, MAC 02:00:00:00:00:01, 10.10.0.11/24"
    assert rows["sysctls"] == "eth0: arp_ignore 0, arp_announce 0, rp_filter 0"
    assert rows["API server"] == "https://10.10.0.1:6443, as system:serviceaccount:kube-system:kvip"
    assert rows["VIPs"].startswith("1 ")
    blind = on(msgspec.structs.replace(HEALTHY, cluster=None), programs=None, proxy_mode=None)
    assert {"API server", "VIPs", "programs", "kube-proxy"} & dict(seen(blind)).keys() == set()


def test_kube_vips_rules_are_no_leftover_while_it_runs():
    facts = host(foreign_rules=(ForeignRules(word="w", count=1),), programs=frozenset({"kube-vip"}))
    assert [finding.check for finding in judge(facts)] == ["other-announcer"]
