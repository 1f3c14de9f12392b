"""What each kind is: its place in the API, what the server fills in, what it refuses, what an update may change.

Inputs: objects as decoded JSON. Outputs: new objects, or `StatusError`. Pure but for uid and time, which are given.
The rules are a kind's `strategy.go` and validation in kube-apiserver v1.34.4, each tried there; unknown fields are kept, not pruned.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import msgspec

from lab.apiserver import services
from lab.apiserver.status import MODIFIED, Obj, StatusError, conflict, invalid

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
MAX_ANNOTATION_BYTES = 262_144
_SERVER_FIELDS = (
    "uid",
    "creationTimestamp",
    "name",
    "namespace",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)

Check = Callable[[Obj, Obj | None], None]
"""Refuses a new object; the second argument is what it replaces, None at a create."""


def _accept(_new: Obj, _old: Obj | None) -> None:
    return


def _keep(_new: Obj, _old: Obj | None) -> None:
    return


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of the API."""

    plural: str
    kind: str
    group: str = ""
    namespaced: bool = True
    has_status: bool = False
    keeps_status_on_create: bool = False
    generations: bool = False
    """metadata.generation is kept. The real server does so for EndpointSlices, not for Services, Nodes or Leases."""
    needs_version: bool = False
    """An update without resourceVersion is refused (AllowUnconditionalUpdate false)."""
    creates_on_update: bool = False
    """A PUT of what is missing creates it (AllowCreateOnUpdate)."""
    returns_deleted: bool = False
    """DELETE answers with the object instead of a Status."""
    fields: frozenset[str] = frozenset()
    """Field selectors beyond metadata.name and metadata.namespace."""
    name_pattern: re.Pattern[str] = _NAME
    fill: Check = _keep
    """Fills in defaults, in place."""
    check: Check = _accept

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def selectable(self) -> frozenset[str]:
        """Every field that a field selector may name."""
        return self.fields | {"metadata.name"} | ({"metadata.namespace"} if self.namespaced else set())


def _check_lease(new: Obj, _old: Obj | None) -> None:
    name, spec = new["metadata"]["name"], new.get("spec") or {}
    for field in ("acquireTime", "renewTime"):
        value = spec.get(field)
        if value is not None and not (isinstance(value, str) and _MICRO_TIME.fullmatch(value)):
            # metav1.MicroTime is parsed with the layout "2006-01-02T15:04:05.000000Z07:00": exactly six digits.
            text = f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse'
            raise StatusError(400, f'Lease in version "v1" cannot be handled as a Lease: {text}')
    for field, least, problem in (
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ):
        value = spec.get(field)
        if value is not None and (not isinstance(value, int) or value < least):
            raise invalid("Lease", "coordination.k8s.io", name, f"spec.{field}", f"Invalid value: {value}: {problem}")


def _check_event(new: Obj, _old: Obj | None) -> None:
    name, namespace = new["metadata"]["name"], new["metadata"]["namespace"]
    involved = (new.get("involvedObject") or {}).get("namespace", "")
    if involved != namespace and not (involved == "" and namespace == "default"):
        problem = f'Invalid value: "{involved}": does not match event.namespace'
        raise invalid("Event", "", name, "involvedObject.namespace", problem)
    if new.get("eventTime"):
        for field in ("reportingComponent", "reportingInstance", "action"):
            if not new.get(field):
                raise invalid("Event", "", name, field, "Required value")


def _fill_namespace(new: Obj, _old: Obj | None) -> None:
    new["metadata"]["labels"] = (new["metadata"].get("labels") or {}) | {"kubernetes.io/metadata.name": new["metadata"]["name"]}
    new.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    new.setdefault("status", {}).setdefault("phase", "Active")


def _fill_event(new: Obj, _old: Obj | None) -> None:
    for field, empty in (("eventTime", None), ("reportingComponent", ""), ("reportingInstance", "")):
        new.setdefault(field, empty)


def _fill_slice(new: Obj, _old: Obj | None) -> None:
    # Go marshals an empty list that lacks `omitempty` as null.
    new["endpoints"], new["ports"] = new.get("endpoints") or None, new.get("ports") or None


def _fill_node(new: Obj, old: Obj | None) -> None:
    spec: Obj = new.setdefault("spec", {})
    if old is None:  # admission plugin TaintNodesByCondition
        spec.setdefault("taints", [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])


_EVENT_FIELDS = {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "reason", "type"}

RESOURCES = {
    resource.plural: resource
    for resource in (
        Resource(
            plural="services",
            kind="Service",
            has_status=True,
            creates_on_update=True,
            returns_deleted=True,
            fields=frozenset({"spec.type", "spec.clusterIP"}),
            name_pattern=re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"),
            fill=services.fill,
            check=services.check,
        ),
        Resource(
            plural="nodes",
            kind="Node",
            namespaced=False,
            has_status=True,
            keeps_status_on_create=True,
            fill=_fill_node,
        ),
        Resource(plural="namespaces", kind="Namespace", namespaced=False, returns_deleted=True, fill=_fill_namespace),
        Resource(
            plural="events",
            kind="Event",
            creates_on_update=True,
            fields=frozenset(_EVENT_FIELDS),
            fill=_fill_event,
            check=_check_event,
        ),
        Resource(plural="pods", kind="Pod", has_status=True, keeps_status_on_create=True, fields=frozenset({"spec.nodeName"})),
        Resource(plural="endpointslices", kind="EndpointSlice", group="discovery.k8s.io", generations=True, fill=_fill_slice),
        Resource(
            plural="leases", kind="Lease", group="coordination.k8s.io", needs_version=True, creates_on_update=True, check=_check_lease
        ),
    )
}


def prepare_create(resource: Resource, given: Obj, *, namespace: str, uid: str, now: str) -> Obj:
    """What a create stores. Errors: 400, 422, and 500 for a resourceVersion, as the real server."""
    metadata: Obj = given["metadata"]
    if metadata.get("resourceVersion"):
        raise StatusError(500, "resourceVersion should not be set on objects to be created", reason="")
    kept = {
        key: metadata[key]
        for key in ("name", "generateName", "labels", "annotations", "finalizers", "ownerReferences")
        if metadata.get(key)
    }
    new: Obj = {"kind": resource.kind, "apiVersion": resource.api_version} | copy.deepcopy(given)
    new["metadata"] = kept | {"uid": uid, "creationTimestamp": now} | ({"namespace": namespace} if resource.namespaced else {})
    if resource.generations:
        new["metadata"]["generation"] = 1
    if resource.has_status and not resource.keeps_status_on_create:
        new.pop("status", None)
    resource.fill(new, None)
    _check_metadata(resource, new)
    resource.check(new, None)
    return new


def prepare_update(resource: Resource, old: Obj, given: Obj, *, subresource: str, patched: bool) -> Obj:
    """What an update stores (`old` itself when nothing changes). Errors: 409, 422. `patched`: `given` is `old` with a patch applied."""
    name, wanted = old["metadata"]["name"], given["metadata"]
    if (uid := wanted.get("uid")) and uid != old["metadata"]["uid"]:
        if patched:
            raise invalid(resource.kind, resource.group, name, "metadata.uid", f'Invalid value: "{uid}": field is immutable')
        raise uid_conflict(resource, name, uid, old["metadata"]["uid"])
    if version := wanted.get("resourceVersion"):
        if not str(version).isdecimal():
            raise StatusError(500, f'strconv.ParseUint: parsing "{version}": invalid syntax', reason="")
        if version != old["metadata"]["resourceVersion"]:
            raise conflict(resource.plural, resource.group, name, MODIFIED)
    elif resource.needs_version:
        problem = "Invalid value: 0: must be specified for an update"
        raise invalid(resource.plural, resource.group, name, "metadata.resourceVersion", problem)
    new = copy.deepcopy(given)
    if subresource == "status":
        new = copy.deepcopy(old) | {"status": new.get("status") or {}}
    elif resource.has_status:
        new.pop("status", None)
        if "status" in old:
            new["status"] = copy.deepcopy(old["status"])
    kept = {key: old["metadata"][key] for key in _SERVER_FIELDS if key in old["metadata"]}
    changed = {key: wanted[key] for key in ("labels", "annotations", "finalizers", "ownerReferences") if wanted.get(key)}
    new["metadata"] = kept | copy.deepcopy(changed) | {"resourceVersion": old["metadata"]["resourceVersion"]}
    new["kind"], new["apiVersion"] = resource.kind, resource.api_version
    resource.fill(new, old)
    _check_metadata(resource, new)
    resource.check(new, old)
    if new == old:
        return old
    if resource.generations and _generation_key(new) != _generation_key(old):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return new


def uid_conflict(resource: Resource, name: str, wanted: str, found: str) -> StatusError:
    """409 for a PUT that names another UID, or one of an object that is gone (`found` empty)."""
    why = f"StorageError: invalid object, Code: 4: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    return conflict(resource.plural, resource.group, name, why)


def _generation_key(obj: Obj) -> Obj:
    """What raises the generation of an EndpointSlice when it changes: everything but metadata, and the labels (its strategy.go)."""
    return obj | {"metadata": obj["metadata"].get("labels")}


def _check_metadata(resource: Resource, new: Obj) -> None:
    name = new["metadata"]["name"]
    if len(name) > 253 or not resource.name_pattern.fullmatch(name):
        problem = f'Invalid value: "{name}": must match {resource.name_pattern.pattern}'
        raise invalid(resource.kind, resource.group, name, "metadata.name", problem)
    annotations: dict[str, str] = new["metadata"].get("annotations") or {}
    if sum(len(key.encode()) + len(str(value).encode()) for key, value in annotations.items()) > MAX_ANNOTATION_BYTES:
        problem = f"Too long: may not be more than {MAX_ANNOTATION_BYTES} bytes"
        raise invalid(resource.kind, resource.group, name, "metadata.annotations", problem)
