"""The fault table as data: what is done to a healthy cluster, and how long the wire may then be silent.

In: a `Scene`. Out: `TABLE`, one `Fault` per row with its bounds. Each `_name` here inflicts one fault, waits for what must
follow, and mends it. It must not judge: tests and the printed table compare what was measured with the bounds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from lab.cluster import now, wait
from lab.embeddedapi import EmbeddedApi
from lab.lan import api_ip
from lab.netns import LabError
from lab.node import NodeProcess
from lab.scene import NO_GAP_S, SETTLE_S, SILENT_S, TAKE_OVER_S, VIPS, Fault, Scene

OTHER_MAC = "02:00:00:00:77:01"


# -- the daemon -----------------------------------------------------------------------------------------------------------------


def _sigterm(scene: Scene) -> None:
    scene.timed("process ended", scene.holder.stop(), 2.0)
    scene.handed_over()


def _sigkill(scene: Scene) -> None:
    scene.holder.kill9()
    scene.handed_over()
    scene.holder.start()
    scene.holder.wait_ready(15)


def _sigstop(scene: Scene) -> None:
    scene.holder.freeze()
    try:
        scene.handed_over()
        mac = scene.cluster.lan.mac(scene.holder.node)
        scene.sniffer.clear()
    finally:
        scene.holder.thaw()
    scene.until(lambda: not scene.held_here(), "let go after SIGCONT", bound_s=0.5)
    time.sleep(1.5)
    late = [frame for frame in scene.sniffer.frames if frame.announcement and frame.sender_mac == mac]
    scene.timed("frames after SIGCONT", len(late), 0)


def _sigstop_short(scene: Scene) -> None:
    """Frozen past the renew deadline, and awake before the lease runs out."""
    scene.holder.freeze()
    try:
        time.sleep(SILENT_S + 0.4)
        mac = scene.cluster.lan.mac(scene.holder.node)
        scene.silent_since(now() - SILENT_S - 0.4, "silent while frozen", bound_s=SILENT_S, by=mac)
    finally:
        scene.holder.thaw()
    scene.answered(timeout_s=TAKE_OVER_S)


def _deleted(scene: Scene) -> None:
    began = now()
    scene.cluster.delete_all()
    scene.keep = False
    scene.silent_since(began, "silent", bound_s=1.0)


def _deleted_while_dead(scene: Scene) -> None:
    began = now()
    for node in scene.cluster.nodes.values():
        node.kill9()
    scene.cluster.delete_all()
    scene.keep = False
    scene.silent_since(began, "silent after SIGKILL", bound_s=SILENT_S)
    started = now()
    scene.holder.start()
    wait(lambda: not scene.holder.vips(), "swept", timeout_s=10)
    scene.timed("swept after the restart", now() - started, 2.0)


# -- the API server ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _cut(scene: Scene, *nodes: str) -> Iterator[None]:
    for node in nodes:
        scene.cluster.lan.cut_api(node)
    try:
        yield
    finally:
        for node in nodes:
            scene.cluster.lan.cut_api(node, False)


def _cut_off(scene: Scene) -> None:
    began = now()
    with _cut(scene, scene.holder.node):
        wait(lambda: not scene.holder.vips(), "the cut-off node let go", timeout_s=TAKE_OVER_S)
        scene.timed("let go after the cut", now() - began, SILENT_S)
        scene.handed_over()


def _follower_cut_off(scene: Scene) -> None:
    with _cut(scene, *(name for name in scene.cluster.nodes if not scene.cluster.nodes[name].vips())):
        time.sleep(TAKE_OVER_S)


def _all_cut_off(scene: Scene) -> None:
    began = now()
    with _cut(scene, *scene.cluster.nodes):
        scene.silent_since(began, "silent after the cut", bound_s=SILENT_S)
    back = now()
    scene.answered(timeout_s=10)
    first = min(answer.at_s for vip in VIPS for answer in scene.prober.answers(vip) if answer.at_s > back - 0.02)
    scene.timed("answered again", first - back, 5.0)


def _stalled(scene: Scene) -> None:
    began = now()
    scene.cluster.api.stall(True)
    try:
        scene.silent_since(began, "silent after the stall", bound_s=SILENT_S)
    finally:
        scene.cluster.api.stall(False)
    scene.answered(timeout_s=10)


def _restarted(scene: Scene) -> None:
    scene.cluster.api.restart_api(down_s=1.0)
    scene.answered(timeout_s=10)


def _failing(scene: Scene, **faults: object) -> None:
    """One node alone gets these answers, then all is well again."""
    api = scene.cluster.api
    if not isinstance(api, EmbeddedApi):
        raise LabError("only the embedded API server fails on request")
    client = api_ip(scene.holder.node)
    before = sum(api.request_counts(client=client).values())
    began = now()
    api.set_faults(client=client, **faults)
    if "status" in faults:
        api.set_faults(client=client, drop_watches=True)
    try:
        scene.handed_over()
        asked = sum(api.request_counts(client=client).values()) - before
        scene.timed("requests per second", asked / (now() - began), 20)
    finally:
        api.set_faults(client=client, **{name: None if name == "status" else False for name in faults})


def _answers(code: int) -> Callable[[Scene], None]:
    return lambda scene: _failing(scene, status={"code": code})


# -- the node ---------------------------------------------------------------------------------------------------------------------


def _announced(scene: Scene, vip: str, began_s: float, mac: str = "") -> float:
    """When a VIP was announced (with this MAC) after that instant."""
    frame = scene.sniffer.wait_for(
        lambda frame: frame.announcement and frame.claimed == vip and frame.at_s > began_s and mac in ("", frame.sender_mac), 5
    )
    if frame is None:
        raise LabError(f"{vip} is not announced again {f'with {mac}' if mac else ''}")
    return frame.at_s


def _put_back(change: Callable[[Scene], Mapping[str, NodeProcess]]) -> Callable[[Scene], None]:
    """VIPs are taken from the nodes that hold them, which put them back and say so. `change` returns which, and from whom."""

    def inflict(scene: Scene) -> None:
        scene.sniffer.clear()
        began = now()
        taken = change(scene)
        scene.timed("announced again", max(_announced(scene, vip, began) for vip in taken) - began, 1.0)
        for vip, node in taken.items():
            wait(lambda vip=vip, node=node: vip in node.vips(), f"{vip} put back", timeout_s=1)  # type: ignore[misc]
        time.sleep(SETTLE_S)

    return inflict


def _delete_all(scene: Scene) -> Mapping[str, NodeProcess]:
    holders = {vip: scene.cluster.holder_of(vip) for vip in VIPS}
    for vip, node in holders.items():
        scene.cluster.drop_address(node.node, vip)
    return holders


def _flush(scene: Scene) -> Mapping[str, NodeProcess]:
    here = scene.held_here()
    scene.cluster.flush_addresses(scene.holder.node)
    return dict.fromkeys(here, scene.holder)


def _rules_flushed(scene: Scene) -> None:
    """The ruleset, and then the daemon that could put it back: what was put back must hold without it."""
    began = now()
    scene.cluster.flush_rules(scene.holder.node)
    tables = lambda: "kvip" in scene.cluster.lan.run(scene.holder.node, "nft", "list", "tables").stdout  # noqa: E731
    wait(tables, "the tables are back", timeout_s=5)
    scene.timed("tables back", now() - began, 1.0)
    scene.answered(timeout_s=2)
    _sigkill(scene)


def _cable_pulled(scene: Scene) -> None:
    scene.cluster.lan.pull_cable(scene.holder.node)
    try:
        scene.handed_over(timeout_s=2 * TAKE_OVER_S)
    finally:
        scene.cluster.lan.pull_cable(scene.holder.node, False)
    time.sleep(1.0)


def _nic_down(scene: Scene) -> None:
    scene.cluster.lan.nic_down(scene.holder.node)
    try:
        scene.handed_over(timeout_s=2 * TAKE_OVER_S)
    finally:
        scene.cluster.lan.nic_up(scene.holder.node)
    time.sleep(1.0)


def _nic_removed(scene: Scene) -> None:
    """Gone, handed over, back; and good for holding again, shown by ending the others."""
    scene.cluster.remove_nic(scene.holder.node)
    try:
        scene.handed_over(timeout_s=2 * TAKE_OVER_S)
    finally:
        scene.cluster.return_nic(scene.holder.node)
    time.sleep(1.0)
    for node in scene.cluster.nodes.values():
        if node is not scene.holder:
            node.stop()
    mac = scene.cluster.lan.mac(scene.holder.node)
    began = now()
    if scene.prober.wait_answer(scene.vip, mac, timeout_s=10) is None:
        raise LabError("the node whose NIC came back does not hold again")
    scene.timed("held again where the NIC came back", now() - began, 1.0)


def _mac_changed(scene: Scene) -> None:
    node = scene.holder.node
    here = scene.held_here()
    try:
        for mac in (OTHER_MAC, scene.cluster.lan.mac(node)):
            began = now()
            scene.cluster.change_mac(node, mac)
            last = max(_announced(scene, vip, began, mac) for vip in here)
            scene.timed("new MAC announced", last - began, 1.0)
    finally:
        scene.cluster.change_mac(node, scene.cluster.lan.mac(node))


def _row(name: str, inflict: Callable[[Scene], None], silence_s: float | None, *, slow: bool = True, embedded: bool = False) -> Fault:
    return Fault(name=name, inflict=inflict, silence_s=silence_s, slow=slow, embedded=embedded)


TABLE = (
    _row("Service deleted", _deleted, None),
    _row("Service deleted while every daemon is dead", _deleted_while_dead, None, slow=False),
    _row("SIGTERM of the holder", _sigterm, 0.5, slow=False),
    _row("SIGKILL of the holder, later restarted", _sigkill, TAKE_OVER_S, slow=False),
    _row("SIGSTOP of the holder, later SIGCONT", _sigstop, TAKE_OVER_S, slow=False),
    _row("SIGSTOP of the holder, SIGCONT before the lease ends", _sigstop_short, TAKE_OVER_S),
    _row("holder cut off from the API", _cut_off, TAKE_OVER_S, slow=False),
    _row("another node cut off from the API", _follower_cut_off, NO_GAP_S),
    _row("every node cut off from the API, then back", _all_cut_off, None),
    _row("API server hangs, then goes on", _stalled, None),
    _row("API server restarted within the renew deadline", _restarted, TAKE_OVER_S),
    _row("API: every PUT of the holder fails, reads work", lambda scene: _failing(scene, fail_put=True), TAKE_OVER_S, embedded=True),
    _row("API: the holder's requests are never answered", lambda scene: _failing(scene, stall=True), TAKE_OVER_S, embedded=True),
    *(_row(f"API answers the holder with {code}", _answers(code), TAKE_OVER_S, embedded=True) for code in (403, 410, 429, 500)),
    _row("ip addr del of a VIP", _put_back(_delete_all), 1.0, slow=False),
    _row("ip addr flush of the holder's NIC", _put_back(_flush), 1.0),
    _row("nft flush ruleset, then SIGKILL of the holder", _rules_flushed, TAKE_OVER_S, slow=False),
    _row("carrier of the holder's NIC lost, later back", _cable_pulled, TAKE_OVER_S),
    _row("holder's NIC set down, later up", _nic_down, TAKE_OVER_S),
    _row("holder's NIC removed, later back", _nic_removed, TAKE_OVER_S),
    _row("MAC of the holder's NIC changed", _mac_changed, NO_GAP_S),
)
"""Every row, in the order in which it is printed."""
