"""Network plugins: one may take a VIP for the node's address, another takes packets before nf_tables sees them.

Input: facts. Output: findings. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvip.core.doctor import nics
from kvip.core.doctor.announcers import is_image
from kvip.core.doctor.facts import Facts
from kvip.core.doctor.finding import Finding
from kvip.core.model import Vip, is_ipv6
from kvip.core.objects import Node

_FLANNEL = "kubectl -n kube-flannel rollout restart daemonset kube-flannel-ds   # with --iface=NIC or --iface-regex=SUBNET in its arguments"
_CALICO = "kubectl -n calico-system set env daemonset/calico-node IP_AUTODETECTION_METHOD=kubernetes-internal-ip"
_NODE_ADDRESSES: Mapping[str, tuple[str, str]] = {
    "flannel.alpha.coreos.com/public-ip": ("flannel", _FLANNEL),
    "flannel.alpha.coreos.com/public-ipv6": ("flannel", _FLANNEL),
    "projectcalico.org/IPv4Address": ("Calico", _CALICO),
    "projectcalico.org/IPv6Address": ("Calico", _CALICO),
}
"""Annotations of a Node in which a plugin keeps what it takes for the node's address: who, and how it chooses another."""
_CALICO_NICS = ("cali", "vxlan.calico")
"""What the names of its NICs begin with: those of pods, and the overlay's."""
_CALICO_IMAGE = "calico/node"
_SAFE_METHODS = ("kubernetes-internal-ip", "interface=", "skip-interface=", "cidr=", "can-reach=")
CILIUM_NIC = "cilium_host"


def judge(facts: Facts) -> Iterator[Finding]:
    """Every finding about network plugins."""
    for node in (facts.cluster.nodes if facts.cluster is not None else None) or ():
        yield from _taken(node, facts)
    yield from _first_address(facts)
    yield from _calico_method(facts)
    yield from _cilium(facts)


def _taken(node: Node, facts: Facts) -> Iterator[Finding]:
    """A VIP that stands as the node's own address in its Node object."""
    vips = (facts.cluster.vips if facts.cluster is not None else None) or {}
    for key, (plugin, mend) in _NODE_ADDRESSES.items():
        value = (node.metadata.annotations or {}).get(key, "").partition("/")[0]
        if Vip(value) in vips:
            yield Finding(
                check="cni-took-vip",
                level="problem",
                what=f"{plugin} takes {value}, a VIP of {vips[Vip(value)][0].service}, for the address of node {node.metadata.name}: {key}",
                why="The other nodes send this node's pod traffic to the VIP, and it breaks when the VIP moves.",
                mend=mend,
            )
    for entry in node.status.addresses or ():
        if Vip(entry.address) in vips:
            yield Finding(
                check="node-address-is-vip",
                level="problem",
                what=f"{entry.type} {entry.address} of node {node.metadata.name} is also that of {vips[Vip(entry.address)][0].service}",
                why="kvip never binds the address of a Node. Where kubelet chose it while the VIP was bound, the others lose this node "
                "when the VIP moves.",
                mend=f"kubectl get service -A | grep {entry.address}   # give the Service another address, or kubelet --node-ip=ADDRESS",
            )


def _first_address(facts: Facts) -> Iterator[Finding]:
    """What a plugin without a choice takes: the first global IPv4 address of the default route's NIC (flannel, pkg/ip/iface.go)."""
    net = facts.host.net
    first = next((a for a in net.addresses if net.nic(a) == net.default_nic and not is_ipv6(a.ip) and a.scope == 0), None)
    if first is not None and first.marked:
        yield Finding(
            check="vip-comes-first",
            level="problem",
            what=f"the first address of {net.default_nic} is the VIP {first.ip}/{first.prefix_len}, before the node's own",
            why="Programs that take a NIC's first address for the node's (flannel, Calico with first-found) would take the VIP. "
            "It happens when the node's own address was removed and added again.",
            mend=f"kubectl -n {facts.settings.namespace} delete pod -l app.kubernetes.io/name=kvip "
            f"--field-selector spec.nodeName={facts.settings.node_name}   # started anew, it binds behind the node's own address",
        )


def _calico_method(facts: Facts) -> Iterator[Finding]:
    if not any(link.name.startswith(_CALICO_NICS) for link in facts.host.net.links.values()):
        return
    pods = facts.cluster.pods if facts.cluster is not None else None
    methods = [pod.environment.get("IP_AUTODETECTION_METHOD", "first-found") for pod in pods or ()
               if any(is_image(image, _CALICO_IMAGE) for image in pod.images)]  # fmt: skip
    if any(method.startswith(_SAFE_METHODS) for method in methods):
        return
    method = f"chooses the node's address by {methods[0]}" if methods else "runs here; how it chooses the node's address cannot be seen"
    yield Finding(
        check="calico-autodetection",
        level="note",
        what=f"Calico {method}",
        why="With first-found it may take a VIP for the node's address when it starts while one is bound; pod traffic then breaks when the "
        "VIP moves.",
        mend=_CALICO,
    )


def _cilium(facts: Facts) -> Iterator[Finding]:
    if not any(link.name == CILIUM_NIC for link in facts.host.net.links.values()):
        return
    ports = facts.settings.service_security
    names = ", ".join(link.name for link in nics.announcing(facts)) or "the NICs"
    yield Finding(
        check="cilium-before-nf-tables",
        level="problem" if ports else "note",
        what=f"Cilium runs here; where it replaces kube-proxy, its programs at tc ingress of {names} take packets before nf_tables",
        why="The dead-man's switch then silences ARP and neighbour discovery for a VIP, but not packets of clients that still know the MAC"
        + (", and service-security filters nothing." if ports else "."),
        mend="kubectl -n kube-system get configmap cilium-config -o jsonpath='{.data.kube-proxy-replacement}'   # true: "
        + ("filter with a CiliumNetworkPolicy, KVIP_SERVICE_SECURITY=false" if ports else "known limit; nothing to do"),
    )
