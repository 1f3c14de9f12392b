"""What an operator does next, for each thing that can be in the way of a VIP. Text only: it decides nothing."""

from __future__ import annotations

from kvip.core.annotations import ADDRESSES, NODE_SELECTOR
from kvip.observe.standing import State, VipFacts
from kvip.observe.state import Header

NOTHING = "nothing"
WATCH = "look again in a moment: kvip status --watch; what goes wrong is in the daemon's log and in the Service's Events"
API = "find out why the API server does not answer this node: the daemon's log names the request; nothing is taken until then"
NO_SERVICE = "check the name: NAMESPACE/SERVICE, as kubectl get services --all-namespaces lists it"
NAMESPACE = "create the Service there, or change service-namespace on every node"
NOT_OURS = "nothing, if that is meant; else change the Service (kubectl edit service) or the settings that kvip runs with"
NAME_ONE = f"name one: kubectl annotate service NAME {ADDRESSES}=ADDRESS, or set spec.loadBalancerIP"
PORT = "give this Service another port or another address, or delete the older one"
SELECTOR = f"mend the annotation {NODE_SELECTOR}; without one, wait for the EndpointSlices"
NIC = "name a NIC that the nodes have (annotation kube-vip.io/serviceInterface, settings interface and services-interface), or bring it up"
HOLDER = "ask the daemon of the node that holds it: kubectl exec in its pod, kvip explain"
STATUS = "look again in a moment; should it stay so, the daemon's log says why the write is refused (it needs to patch services/status)"


def for_value(fault: str) -> str:
    """For a value that cannot be a VIP."""
    if "allow-cidr" in fault:
        return f"name an address inside ({ADDRESSES} or spec.loadBalancerIP), or add the network to allow-cidr on every node"
    if "ipFamilies" in fault:
        return "add the family to spec.ipFamilies (ipFamilyPolicy RequireDualStack), or remove the address"
    if "kvip did not add" in fault:
        return (
            "choose a free address; or, if a killed kube-vip left this one here, hand it to kvip: kvip sweep --adopt on this node. "
            "kvip sweep --dry-run shows what is there"
        )
    return f"correct it: annotation {ADDRESSES} or spec.loadBalancerIP; a VIP is a free address of the nodes' network"


def for_shortage(why: str) -> str:
    """Where no node may hold it."""
    if "endpoints" in why and NODE_SELECTOR not in why:
        return "see why its pods are not ready: kubectl get endpointslices, kubectl get pods; or set externalTrafficPolicy: Cluster"
    return f"change the annotation {NODE_SELECTOR}, or label a Node: kubectl get nodes --show-labels"


def for_state(state: State, facts: VipFacts) -> str:
    """Where it is held, and not bound or not alone."""
    if state == "conflict" and facts.mac is not None:
        return f"find the host {facts.mac.hex(':')} and take the address from it, or choose another; it is tried again every 30 s"
    if state == "conflict":
        return "remove it (ip addr del), or hand it to kvip if a killed daemon left it: kvip sweep --adopt on this node"
    if state == "releasing":
        return WATCH
    return "see the kernel's words above and the daemon's log; it is tried again, and left to other nodes after three failures"


def for_pending(header: Header | None, facts: VipFacts) -> str:
    """Where nobody holds it."""
    if header is None:
        return "see that kvip runs on the nodes: kubectl get pods, and each one's log"
    if header.blocked:
        return "the modes keep off each other: end the other daemon, or run all nodes with one `election`; a rolling restart does it"
    if header.banned:
        return "see the Node's labels and taints, or the daemon's log where it is the switch; other nodes may hold it meanwhile"
    if facts.nic is not None and not facts.placed.nic:
        return NIC
    return WATCH
