"""The node and the daemon's rights, as the API server knows them.

Input: facts. Output: findings. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvip.core.doctor.facts import Facts, Right
from kvip.core.doctor.finding import Finding
from kvip.core.siting import NodeRules, exclusion

MOST_NAMED = 5


def judge(facts: Facts) -> Iterator[Finding]:
    """Every finding about the Node object and the rights."""
    cluster = facts.cluster
    if cluster is None:
        return
    yield from _node(facts)
    if cluster.denied:
        yield _denied(facts)


def _node(facts: Facts) -> Iterator[Finding]:
    nodes, name = facts.cluster.nodes if facts.cluster is not None else None, facts.settings.node_name
    if nodes is None:
        return
    node = next((node for node in nodes if node.metadata.name == name), None)
    if node is None:
        yield Finding(
            check="node-unknown",
            level="problem",
            what=f"there is no Node {name!r} in the cluster",
            why="Endpoints, labels and taints are looked up by this name: VIPs with externalTrafficPolicy Local would never come here.",
            mend="kubectl get nodes   # and name this one: KVIP_NODE_NAME=NAME (in a manifest: spec.nodeName)",
        )
        return
    rules = NodeRules(exclude_label=facts.settings.exclude_label, cordon_hands_over=facts.settings.cordon_hands_over)
    reason = exclusion(node, rules)
    if reason:
        yield Finding(
            check="node-excluded",
            level="note",
            what=f"this node takes no VIP: {reason}",
            why="It is so by choice; where every node is excluded nobody holds any VIP.",
            mend=f"kubectl describe node {name}",
        )


def _denied(facts: Facts) -> Finding:
    assert facts.cluster is not None
    denied = sorted(facts.cluster.denied)
    named = "; ".join(worded(right) for right in denied[:MOST_NAMED])
    more = f" and {len(denied) - MOST_NAMED} more" if len(denied) > MOST_NAMED else ""
    who = f"{facts.cluster.user!r}" if facts.cluster.user else "whose credentials these are"
    return Finding(
        check="rights-missing",
        level="problem",
        what=f"{who} may not: {named}{more}",
        why="Without a right the daemon does not sync, cannot hold a lease, or cannot say what it did.",
        mend="kvip manifest rbac | kubectl apply -f -   # with the settings of the daemon",
    )


def worded(right: Right) -> str:
    """A right in words: verb, resource, where."""
    group = f".{right.group}" if right.group else ""
    return f"{right.verb} {right.resource}{group} in {f'namespace {right.namespace}' if right.namespace else 'all namespaces'}"
