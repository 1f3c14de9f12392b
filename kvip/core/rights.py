"""The rights at the API server that a daemon with these settings needs, and no more (RBAC).

Input: settings. Output: rules by namespace, and the objects that grant them. Pure; it must not know where they go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kvip.settings import Settings

EVERYWHERE = ""
"""Instead of a namespace: a ClusterRole."""
NAME = "kvip"
_GROUP = "rbac.authorization.k8s.io"

Json = dict[str, Any]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """These verbs on these resources of one API group ("" = the core group)."""

    group: str = ""
    resources: tuple[str, ...]
    verbs: tuple[str, ...]


_FOLLOW = ("list", "watch")
"""What an informer asks for; only Leases are read one by one."""
_EVENTS = Rule(resources=("events",), verbs=("create",))
_OF_NODES = "default"
_LEASES = Rule(group="coordination.k8s.io", resources=("leases",), verbs=("get", *_FOLLOW, "create", "update"))


def rules_for(settings: Settings) -> Mapping[str, tuple[Rule, ...]]:
    """The rules by the namespace where they hold; `EVERYWHERE` comes first."""
    served = settings.served_namespaces
    local: dict[str, list[Rule]] = {EVERYWHERE: [Rule(resources=("nodes",), verbs=_FOLLOW)]}
    # What is watched is read: one namespace, or all.
    local.setdefault(settings.watched_namespace, []).extend(
        (Rule(resources=("services",), verbs=_FOLLOW), Rule(group="discovery.k8s.io", resources=("endpointslices",), verbs=_FOLLOW))
    )
    for namespace in served or (EVERYWHERE,):
        if not settings.disable_service_updates:
            local.setdefault(namespace, []).append(Rule(resources=("services/status",), verbs=("patch",)))
            if settings.vip_host_annotation:
                local[namespace].append(Rule(resources=("services",), verbs=("patch",)))
    # An Event is in the namespace of what it is about; one about a Node in "default" (validation of core/v1 Event).
    for namespace in dict.fromkeys((*served, _OF_NODES)) if served else (EVERYWHERE,):
        local.setdefault(namespace, []).append(_EVENTS)
    # A Service's annotation may name a Lease in any namespace.
    if settings.election == "per-service" or settings.per_service_on_demand:
        local[EVERYWHERE].insert(1, _LEASES)
    else:
        local.setdefault(settings.namespace, []).append(_LEASES)
    return {namespace: tuple(rules) for namespace, rules in local.items()}


def rbac_objects(settings: Settings, subject: Json) -> list[Json]:
    """Roles and bindings that grant `subject` (an rbac.authorization.k8s.io/v1 Subject) what the settings need, in order of creation."""
    objects: list[Json] = []
    for namespace, rules in rules_for(settings).items():
        kind = "Role" if namespace else "ClusterRole"
        metadata = {"name": NAME, **({"namespace": namespace} if namespace else {})}
        head = {"apiVersion": f"{_GROUP}/v1"}
        granted = [{"apiGroups": [rule.group], "resources": list(rule.resources), "verbs": list(rule.verbs)} for rule in rules]
        reference = {"apiGroup": _GROUP, "kind": kind, "name": NAME}
        objects.append({**head, "kind": kind, "metadata": metadata, "rules": granted})
        objects.append({**head, "kind": f"{kind}Binding", "metadata": metadata, "roleRef": reference, "subjects": [subject]})
    return objects
