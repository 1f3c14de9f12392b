"""Facts of a node on which nothing is wrong, as `kvip doctor` gathered them, and ways to make one thing of it wrong."""

import msgspec

from kvip.core.doctor.facts import ClusterFacts, Facts, HostFacts
from kvip.core.election import heartbeat
from kvip.core.model import MARK_PROTO, Address, IfIndex, Link, Uid, Vip
from kvip.core.objects import Lease, LeaseSpec, Node, NodeAddress, NodeStatus, ObjectMeta
from kvip.core.strays import Owner
from kvip.core.sweeping import Host
from kvip.settings import Settings

VIP = Vip("10.10.0.200")
WEB = Owner(service="default/web", uid=Uid("u1"), ours=True)
LO = Link(index=IfIndex(1), name="lo", mac=bytes(6), up=True, carrier=True, arp_type=772, mtu=65536)
ETH0 = Link(index=IfIndex(2), name="eth0", mac=bytes.fromhex("020000000001"), up=True, carrier=True)
ETH1 = Link(index=IfIndex(3), name="eth1", mac=bytes.fromhex("020000000011"), up=True, carrier=True)
IPVS = Link(index=IfIndex(4), name="kube-ipvs0", mac=bytes.fromhex("020000000099"), up=False, carrier=False, kind="dummy", arp=False)
OWN = Address(ip=Vip("10.10.0.11"), prefix_len=24, index=ETH0.index, flags=0x80)
VALUES = {"arp_ignore": 0, "arp_announce": 0, "rp_filter": 0}

HEALTHY = Facts(
    settings=Settings(node_name="n1", election="claims"),
    host=HostFacts(
        release="6.8.0-31-generic",
        net=Host(
            addresses=(Address(ip=Vip("127.0.0.1"), prefix_len=8, index=LO.index, scope=254), OWN),
            links={LO.index: LO, ETH0.index: ETH0},
            default_nic="eth0",
        ),
        sysctls={"all": VALUES, "lo": VALUES, "eth0": VALUES},
        switch_problem="",
        daemon_runs=True,
        programs=frozenset({"systemd-network", "kube-proxy"}),
        proxy_mode="iptables",
        clock_synchronised=True,
        foreign_rules=(),
    ),
    cluster=ClusterFacts(
        server="https://10.10.0.1:6443",
        user="system:serviceaccount:kube-system:kvip",
        skew_s=0.0,
        nodes=(
            Node(
                metadata=ObjectMeta(
                    name="n1",
                    annotations={"flannel.alpha.coreos.com/public-ip": "10.10.0.11", "projectcalico.org/IPv4Address": "10.10.0.11/24"},
                ),
                status=NodeStatus(addresses=(NodeAddress(type="InternalIP", address="10.10.0.11"),)),
            ),
        ),
        vips={VIP: (WEB,)},
        leases=(Lease(metadata=ObjectMeta(name="kube-scheduler"), spec=LeaseSpec(holder_identity="n1_x")),),
        pods=(),
    ),
)


def host(**changes) -> Facts:
    """The node with other facts of its host."""
    return msgspec.structs.replace(HEALTHY, host=msgspec.structs.replace(HEALTHY.host, **changes))


def net(**changes) -> Facts:
    """With other NICs and addresses."""
    return host(net=msgspec.structs.replace(HEALTHY.host.net, **changes))


def cluster(**changes) -> Facts:
    """In another cluster."""
    return msgspec.structs.replace(HEALTHY, cluster=msgspec.structs.replace(HEALTHY.cluster, **changes))


def node(**changes) -> Facts:
    """With another Node object."""
    return cluster(nodes=(msgspec.structs.replace(HEALTHY.cluster.nodes[0], **changes),))


def with_settings(facts: Facts, **changes) -> Facts:
    """With other settings."""
    return msgspec.structs.replace(facts, settings=msgspec.structs.replace(facts.settings, **changes))


def with_links(*links, **changes) -> Facts:
    """With these NICs instead of eth0."""
    return net(links={LO.index: LO, **{link.index: link for link in links}}, **changes)


def with_addresses(*addresses) -> Facts:
    """With these addresses behind the node's own."""
    return net(addresses=(*HEALTHY.host.net.addresses, *addresses))


def left(ip=VIP, *, marked=False, **changes) -> Address:
    """What a daemon bound: kvip, or one such as kube-vip."""
    lifetimes = {"valid_s": 60, "preferred_s": 0} if marked else {"valid_s": None, "preferred_s": 0}
    place = {"prefix_len": 32, "index": ETH0.index, "flags": 0x20, "proto": MARK_PROTO if marked else 0}
    return Address(ip=ip, **{**place, **lifetimes, **changes})


def sysctl(nic, **values) -> dict:
    """The sysctls with other values on one NIC."""
    known = HEALTHY.host.sysctls
    return {**known, nic: {**known.get(nic, VALUES), **values}}


def heartbeat_of(other, mac) -> Lease:
    """The heartbeat of another node, whose NIC has this MAC."""
    about = heartbeat.About(nics=(heartbeat.Nic(name="eth0", mac=mac),))
    incarnation = f"{other}_{'0' * 32}"
    spec, notes = heartbeat.beat(incarnation, about, sequence=1, duration_s=5.0, before=None)
    return Lease(metadata=ObjectMeta(name=heartbeat.name_of(other), annotations=notes), spec=spec)


def on(facts: Facts, **changes) -> Facts:
    """These facts with others of the host."""
    return msgspec.structs.replace(facts, host=msgspec.structs.replace(facts.host, **changes))


def ipvs(**changes) -> Facts:
    """A node with kube-proxy in mode ipvs, and a VIP on its dummy NIC."""
    return on(with_links(ETH0, IPVS, addresses=(OWN, left(index=IPVS.index, flags=0x80))), proxy_mode="ipvs", **changes)


def two_nics(**changes) -> Facts:
    """A node with a subnet on each of two NICs; the default route leaves by the first."""
    return on(with_links(ETH0, ETH1, addresses=(OWN, msgspec.structs.replace(OWN, ip=Vip("10.20.0.11"), index=ETH1.index))), **changes)
