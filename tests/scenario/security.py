"""Ports that reach a VIP or do not, and the rules of a Service on each node."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lab.cluster import Cluster, wait
from lab.lan import CLIENT
from lab.netns import NetNamespace
from lab.node import NodeProcess

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
IGNORE = "kube-vip.io/ignore-service-security"
TABLE = "kvip-services"
DROPPED_S = 0.3
AT_ONCE_S = 1.0


@contextmanager
def restarted(cluster: Cluster, **env: str) -> Iterator[None]:
    """Every daemon with more settings."""
    with ExitStack() as stack:
        for name in cluster.nodes:
            stack.enter_context(cluster.restarted(name, **env))
        yield


def reaches(space: NetNamespace, target: str, port: int) -> bool:
    """Is a connection accepted, or refused by the machine itself, rather than dropped?"""
    with space.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(DROPPED_S)
        try:
            connection.connect((target, port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True


def rules(cluster: Cluster, node: str) -> str:
    return cluster.lan.run(node, "nft", "list", "ruleset").stdout


def wait_for_port(cluster: Cluster, port: int, vip: str = VIP, *, opened: bool) -> float:
    """Seconds until the client's connections come through, or not."""
    client = cluster.lan.ns(CLIENT)
    return wait(lambda: reaches(client, vip, port) == opened, f"{vip}:{port} {'open' if opened else 'closed'}", timeout_s=3)


def wait_without(cluster: Cluster, word: str) -> float:
    """Seconds until no node has a rule that names it."""

    def gone() -> bool:
        time.sleep(0.01)  # each look is a child of its own
        return not any(word in rules(cluster, name) for name in cluster.nodes)

    return wait(gone, f"no rule names {word}", timeout_s=5)


def port(number: int, name: str = "") -> dict[str, object]:
    return {"name": name or f"p{number}", "port": number, "protocol": "TCP"}


def hold(cluster: Cluster, *vips: str, name: str = "web", **more: object) -> tuple[str, NodeProcess]:
    uid = cluster.create(name, *vips, **more)  # type: ignore[arg-type]
    cluster.wait_bound(*vips)
    return uid, cluster.holder_of(vips[0])


@contextmanager
def pod_on(cluster: Cluster, node: str) -> Iterator[NetNamespace]:
    with NetNamespace.create("pod") as pod:
        here = cluster.lan.ns(node)
        here.sysctl({"ipv4/ip_forward": "1"})
        here.ip_batch([f"link add cni0 type veth peer name eth0 netns {pod.path}", "addr add 10.20.0.1/24 dev cni0", "link set cni0 up"])
        pod.ip_batch(["addr add 10.20.0.2/24 dev eth0", "link set eth0 up", "route add default via 10.20.0.1"])
        try:
            # A new veth is opened by the kernel's link watch, which rests for up to a second between two rounds (net/core/link_watch.c).
            wait(lambda: reaches(pod, "10.20.0.1", 9), "the pod reaches its node", timeout_s=5)
            yield pod
        finally:
            here.ip_batch(["link del cni0"])
            here.sysctl({"ipv4/ip_forward": "0"})
