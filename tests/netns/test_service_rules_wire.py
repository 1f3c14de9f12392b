"""Service security judged on the wire: what reaches a VIP from outside, from a pod, from the holder; for both families."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kvip.core.model import Vip
from lab.lan import Lan
from tests.netns.service_rules_lab import Guarded, icmp, let, served, solicited, tcp, udp
from tests.netns.switch_lab import BOTH, CLIENT_OF, OWN_OF, VIP4, VIP6, pings

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
POD_OF = {VIP4: "10.20.0.2", VIP6: "fd00:20::2"}


@pytest.fixture
def node() -> Iterator[Guarded]:
    with Lan(1) as lan, ExitStack() as stack:
        yield Guarded(lan, stack)


@pytest.mark.parametrize("vip", BOTH)
def test_only_the_services_ports_reach_the_vip_from_outside(node: Guarded, vip: Vip):
    assert tcp(node.client, vip, 81), "without the rules everything does: else this test shows nothing"
    node.restrict({vip: let(("tcp", 80), ("udp", 53))})
    assert tcp(node.client, vip, 80)
    assert not tcp(node.client, vip, 81)
    assert not tcp(node.client, vip, 53), "the port alone is not enough"
    assert udp(node.client, node.space, vip, 53)
    assert not udp(node.client, node.space, vip, 80)


@pytest.mark.parametrize("vip", BOTH)
def test_other_addresses_are_not_concerned(node: Guarded, vip: Vip):
    node.restrict({vip: let(("tcp", 80))})
    assert tcp(node.client, OWN_OF[vip], 81)
    assert tcp(node.client, VIP6 if vip == VIP4 else VIP4, 81), "a VIP without a restriction"
    assert tcp(node.space, CLIENT_OF[vip], 81)


@pytest.mark.parametrize("vip", BOTH)
def test_a_pod_on_the_holder_and_the_holder_itself_reach_every_port(node: Guarded, vip: Vip):
    node.restrict({vip: let(("tcp", 80))})
    for port in (80, 81):
        assert tcp(node.pod, vip, port)
        assert tcp(node.space, vip, port)
    assert pings(node.pod, vip)


@pytest.mark.parametrize("vip", BOTH)
def test_echo_and_the_errors_that_connections_need_pass_and_other_icmp_does_not(node: Guarded, vip: Vip):
    node.restrict({vip: let()})
    assert pings(node.client, vip)
    # Destination unreachable (IPv4 code 4: fragmentation needed), time exceeded, parameter problem; IPv6: packet too big as well.
    needed = [(1, 0), (2, 0), (3, 0), (4, 0)] if vip == VIP6 else [(3, 4), (3, 1), (11, 0), (12, 0)]
    assert [kind for kind in needed if not icmp(node.client, node.space, vip, *kind)] == []
    refused = [(139, 0), (127, 0)] if vip == VIP6 else [(13, 0), (17, 0)]
    assert [kind for kind in refused if icmp(node.client, node.space, vip, *kind)] == []


def test_a_unicast_neighbour_solicitation_is_answered(node: Guarded):
    node.restrict({VIP6: let()})
    assert solicited(node.client, VIP6)


@pytest.mark.parametrize("vip", BOTH)
def test_a_datagram_in_fragments_arrives_whole_on_an_open_port_only(node: Guarded, vip: Vip):
    node.restrict({vip: let(("udp", 53))})
    assert udp(node.client, node.space, vip, 53, size=4000)
    assert not udp(node.client, node.space, vip, 54, size=4000)


@pytest.mark.parametrize("vip", BOTH)
def test_the_answer_to_a_connection_from_the_vip_comes_back(node: Guarded, vip: Vip):
    node.restrict({vip: let()})
    with served(node.client, CLIENT_OF[vip], 8080):
        assert tcp(node.space, CLIENT_OF[vip], 8080, source=vip)


@pytest.mark.parametrize("vip", BOTH)
def test_the_rules_stand_before_the_dnat_of_kube_proxy(node: Guarded, vip: Vip):
    """kube-proxy sends the Service's port to a pod, and a node port on every local address: that one is what must stay closed."""
    family, pod = ("ip6", f"[{POD_OF[vip]}]") if vip == VIP6 else ("ip", POD_OF[vip])
    dnat = f"{family} daddr {vip} tcp dport {{ 80, 30080 }} dnat to {pod}:8080"
    node.nft(f"table {family} proxy {{\nchain services {{\ntype nat hook prerouting priority dstnat\n{dnat}\n}}\n}}\n")
    node.client.ip_batch([f"route add {POD_OF[vip]} via {OWN_OF[vip]}"])
    with served(node.pod, POD_OF[vip], 8080):
        assert tcp(node.client, vip, 30080)
        node.restrict({vip: let(("tcp", 80))})
        assert tcp(node.client, vip, 80)
        assert not tcp(node.client, vip, 30080)


@pytest.mark.parametrize("vip", BOTH)
def test_a_port_that_is_closed_is_closed_to_open_connections_too(node: Guarded, vip: Vip):
    node.restrict({vip: let(("tcp", 80))})
    with served(node.space, vip, 80), node.client.socket(socket.AF_INET6 if vip == VIP6 else socket.AF_INET, socket.SOCK_STREAM) as open_:
        open_.connect((vip, 80))
        node.restrict({vip: let(("tcp", 81))})
        assert not tcp(node.client, vip, 80)
        open_.send(b"more")
        assert _unacknowledged(node, vip), "what is sent on the open connection is not acknowledged"


def _unacknowledged(node: Guarded, vip: str) -> bool:
    time.sleep(0.05)
    return "unacked:1" in node.client.run("ss", "-tin", "dst", f"[{vip}]" if ":" in vip else vip).stdout
