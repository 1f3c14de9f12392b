"""`kvip status` as text: a head, and a line per VIP.

Input: a view of one daemon or of the cluster. Output: lines. Pure: no clock, no terminal; an age is counted to the instant of the view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from kvip.cli.table import aligned, printable
from kvip.observe.cluster import ClusterView, ClusterVip
from kvip.observe.state import ServiceView, StateView, VipView

HEAD = ("VIP", "STATE", "NODE", "NIC", "SINCE", "LAST SENT", "SERVICES", "REASON")
CLUSTER_HEAD = ("VIP", "STATE", "NODE", "IN STATUS", "SERVICES", "REASON")
NODES_HEAD = ("NODE", "STATE", "VIPS", "LAST HEARTBEAT", "LEASE", "NICS", "INCARNATION")
COLOURS: Mapping[str, str] = {
    "announced": "32", "bound": "36", "pending": "33", "held-elsewhere": "2", "releasing": "33", "conflict": "31", "invalid": "31",
    "held": "32", "expired": "31",
}  # fmt: skip
"""SGR parameters (ECMA-48 8.3.117) by state."""


def status_lines(view: StateView | ClusterView, *, colour: bool = False) -> list[str]:
    """The whole output."""
    if isinstance(view, ClusterView):
        return [*_cluster_head(view), "", *_table(CLUSTER_HEAD, [_cluster_cells(row) for row in view.vips], colour=colour)]
    return [*_head(view), "", *_table(HEAD, [_cells(row, view.at) for row in view.vips], colour=colour)]


def changed_lines(before: StateView | ClusterView | None, view: StateView | ClusterView) -> list[str]:
    """What changed since another view, a line each with the instant of the view: for a log. Ages are left out: they always change."""
    known = _steady(before) if before is not None else {}
    now = _steady(view)
    lines = [line for key, line in now.items() if known.get(key) != line]
    gone = [f"{' '.join(filter(None, key))}  gone" for key in known if key not in now]
    return [f"{view.at}  {line}" for line in [*lines, *gone]]


def age(since: str, at: str) -> str:
    """How long before `at` an instant was, both RFC 3339: "12s", "5m", "3h", "2d"; "" = no such instant."""
    if not since:
        return ""
    try:
        seconds = max(0, int((datetime.fromisoformat(at) - datetime.fromisoformat(since)).total_seconds()))
    except (ValueError, TypeError):
        return since
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _head(view: StateView) -> list[str]:
    daemon = view.daemon
    missing = sorted(kind for kind, done in daemon.synced.items() if not done)
    valid = f"may act for {daemon.valid_s:.1f} s" if daemon.valid_s else "holds no lease"
    synced = f"not synced: {', '.join(missing)}" if missing else "synced" if daemon.known else "reading Services"
    lines = [
        f"{daemon.node}: kvip {daemon.version}, election {daemon.election}, {valid}, {synced}, loop lag {daemon.loop_lag_s * 1000:.0f} ms",
        f"incarnation {daemon.incarnation}, epoch {daemon.epoch}, NICs {', '.join(daemon.nics) or 'none'}, fencing {daemon.fencing}",
    ]
    notes = [] if daemon.observed else ["the API server does not answer about the Leases"]
    return [printable(line) for line in [*lines, *notes, *filter(None, (daemon.blocked, daemon.banned))]]


def _cells(row: VipView, at: str) -> tuple[str, ...]:
    last = age(row.last_announced, at)
    return (row.vip, row.state, row.node, row.nic, age(row.since, at), f"{last} ago" if last else "", _services(row.services), row.reason)


def _cluster_head(view: ClusterView) -> list[str]:
    nodes = [
        (
            node.node,
            node.state,
            str(node.vips),
            f"{node.heartbeat_age_s:.1f} s ago" if node.heartbeat_age_s is not None else "",
            f"{node.lease_duration_s:g} s",
            ", ".join(node.nics),
            node.incarnation,
        )
        for node in view.nodes
    ]
    return [
        f"the cluster by its Leases and Services, {view.at}: election {view.election}",
        *(["", *aligned([NODES_HEAD, *nodes])] if nodes else []),
    ]


def _cluster_cells(row: ClusterVip) -> tuple[str, ...]:
    return (row.vip, row.state, row.node, "yes" if row.in_status else "no", _services(row.services), row.reason)


def _services(services: Sequence[ServiceView]) -> str:
    """Names with the beginning of their UIDs."""
    return ", ".join(f"{each.service} ({each.uid[:8]})" for each in services)


def _table(head: tuple[str, ...], cells: Sequence[tuple[str, ...]], *, colour: bool) -> list[str]:
    if not cells:
        return ["no VIPs"]
    lines = aligned([head, *cells])
    return [lines[0], *(_coloured(line, line_cells) if colour else line for line, line_cells in zip(lines[1:], cells, strict=True))]


def _coloured(line: str, cells: tuple[str, ...]) -> str:
    """The state in its colour: it stands behind the VIP, which has no spaces that matter to the search."""
    place = line.index(cells[1], len(printable(cells[0]) or "-"))
    return f"{line[:place]}\x1b[{COLOURS[cells[1]]}m{cells[1]}\x1b[0m{line[place + len(cells[1]) :]}"


def _steady(view: StateView | ClusterView) -> dict[tuple[str, str], str]:
    """Each line of the view without what changes by itself."""
    if isinstance(view, ClusterView):
        nodes = {(node.node, "node"): f"node {node.node}  {node.state}  {node.incarnation}  {node.vips} VIPs" for node in view.nodes}
        return nodes | {_key(row): "  ".join(printable(cell) or "-" for cell in _cluster_cells(row)) for row in view.vips}
    daemon = view.daemon
    able = "may act" if daemon.valid_s else "holds no lease"
    head = f"node {daemon.node}  {able}  {daemon.incarnation}  epoch {daemon.epoch}"
    rows = ((_key(row), (row.vip, row.state, row.node, row.nic, _services(row.services), row.reason)) for row in view.vips)
    return {(daemon.node, "node"): head} | {key: "  ".join(printable(cell) or "-" for cell in cells) for key, cells in rows}


def _key(row: VipView | ClusterVip) -> tuple[str, str]:
    """One VIP may have several lines: what its Services hold, and what younger ones do not get."""
    refused = row.state in ("invalid", "conflict") or not row.vip
    return row.vip, row.services[0].service if refused and row.services else ""
