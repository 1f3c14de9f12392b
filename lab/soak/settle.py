"""What must be true once everything is healed: invariant I3, on the wire, in the kernels, and in status.

In: the judges' last observations, the `World`, the Services as the API server has them. Out: what is not as it should be, one line each;
empty = converged. It must not wait or act.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.admin import Json
from lab.soak.claims import ingress_of
from lab.soak.services import asked_by

FRESH_S = 0.2


def differences(*, living: Mapping[str, set[str]], bound: Mapping[str, frozenset[str]], holders: Mapping[str, tuple[str, float]],
                now_s: float) -> list[str]:  # fmt: skip
    """Marked addresses on all nodes = exactly the VIPs of living Services, one node each, and that node answers.

    `bound`: node -> marked addresses; `holders`: VIP -> who answered last, and when.
    """
    found = []
    for vip in sorted({*living, *(vip for vips in bound.values() for vip in vips)}):
        nodes = sorted(node for node, vips in bound.items() if vip in vips)
        if vip not in living:
            found.append(f"{vip} is bound on {', '.join(nodes)}, no Service asks for it")
        elif len(nodes) != 1:
            found.append(f"{vip}, asked for by {', '.join(sorted(living[vip]))}, is bound on {', '.join(nodes) or 'no node'}")
        else:
            answering, at_s = holders.get(vip, ("", 0.0))
            if answering != nodes[0] or now_s - at_s > FRESH_S:
                found.append(f"{vip} is bound on {nodes[0]}, last answered by {answering or 'nobody'} {now_s - at_s:.2f} s ago")
    return found


def status_differences(services: Iterable[Json]) -> list[str]:
    """Each Service of ours names in its status exactly what it asks for; one that asks for nothing names nothing."""
    found = []
    for service in services:
        name = service["metadata"]["name"]
        if name == "kubernetes":
            continue
        asked, told = set(asked_by(service)), set(ingress_of(service))
        if asked - told:
            found.append(f"status of {name} lacks {', '.join(sorted(asked - told))}")
        if told - asked:
            found.append(f"status of {name} still names {', '.join(sorted(told - asked))}")
    return found
