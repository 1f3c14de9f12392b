"""Objects, their versions, and the history that watches are served from: what etcd and the watch cache are to the real server.

Inputs: whole objects. Outputs: objects, `Change`s in the order of the one global resourceVersion. Every method is synchronous, so
each is one transaction. Stored objects are never changed in place. No HTTP and no validation here (`resources` has it).
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from lab.apiserver.resources import RESOURCES, Resource, prepare_create, prepare_update, uid_conflict
from lab.apiserver.status import MODIFIED, Obj, StatusError, already_exists, conflict, expired, forbidden, not_found

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_UNDELETABLE = frozenset(NAMESPACES[:3])
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""The alphabet of generated names (k8s.io/apimachinery/pkg/util/rand): 5 of them are appended."""
EVERYONE = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One write. `old` None = created, `new` None = deleted (then `gone` is the last state with the version of the deletion)."""

    version: int
    resource: str
    old: Obj | None
    new: Obj | None
    gone: Obj | None = None
    hidden_from: frozenset[str] = frozenset()
    """Clients (source addresses) that are never told; `EVERYONE` = none is."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that outlives a restart of the server; the history does not, as the real watch cache."""

    version: int
    objects: list[tuple[str, Obj]]


class Store:
    """The objects of one cluster."""

    def __init__(self, *, history_limit: int = 10_000, state: State | None = None) -> None:
        self.version = state.version if state else 1
        """The highest resourceVersion given so far."""
        self.compacted = self.version
        """Watches from below this version get 410: the history before it is gone."""
        self.hidden_from: Callable[[], frozenset[str]] = frozenset
        """Asked at each write: which clients are not to be told of it."""
        self._history: deque[Change] = deque()
        self._history_limit = history_limit
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {plural: {} for plural in RESOURCES}
        self._listeners: set[Callable[[Change], None]] = set()
        if state is None:
            for name in NAMESPACES:
                self.create(RESOURCES["namespaces"], {"metadata": {"name": name}})
        else:
            for plural, obj in state.objects:
                self._objects[plural][_key(obj)] = obj

    def state(self) -> State:
        """Everything, to start another store from."""
        return State(version=self.version, objects=[(plural, obj) for plural, kept in self._objects.items() for obj in kept.values()])

    def has(self, resource: Resource, namespace: str, name: str) -> bool:
        """True when the object exists."""
        return (namespace, name) in self._objects[resource.plural]

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """One object. Errors: 404."""
        try:
            return self._objects[resource.plural][(namespace, name)]
        except KeyError:
            raise not_found(resource.plural, resource.group, name) from None

    def list(self, resource: Resource, namespace: str = "") -> list[Obj]:
        """All of a kind, of one namespace or of all (""), in etcd's order."""
        kept = self._objects[resource.plural]
        return [kept[key] for key in sorted(kept) if not namespace or key[0] == namespace]

    def create(self, resource: Resource, given: Obj, namespace: str = "") -> Obj:
        """Add an object. Errors: 409, 404 without its namespace, 403 in one that terminates, what `prepare_create` refuses."""
        if resource.namespaced:
            self._require_namespace(resource, namespace, given["metadata"].get("name", ""))
        uid = str(uuid.uuid4())
        if not given["metadata"].get("name"):
            given = given | {"metadata": given["metadata"] | {"name": self._generated_name(resource, namespace, given["metadata"], uid)}}
        name: str = given["metadata"]["name"]
        if (namespace, name) in self._objects[resource.plural]:
            raise already_exists(resource.plural, resource.group, name)
        new = prepare_create(resource, given, namespace=namespace, uid=uid, now=_now())
        return self._write(resource, None, new)

    def update(self, resource: Resource, old: Obj, given: Obj, *, subresource: str = "", patched: bool = False) -> Obj:
        """Replace an object; no change writes nothing; one that is being deleted goes with its last finalizer. Errors: 409, 422."""
        new = prepare_update(resource, old, given, subresource=subresource, patched=patched)
        if new is old:
            return old
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers") and resource.plural != "namespaces":
            self._remove(resource, old)
            return new
        return self._write(resource, old, new)

    def put_missing(self, resource: Resource, given: Obj, namespace: str) -> Obj:
        """A PUT of what is not there: some kinds are created by it. Errors: 404, 409 when `given` names a UID.

        As the real server: with a stale resourceVersion but no UID the object is created anew; only the UID prevents it.
        """
        metadata = given["metadata"]
        if not resource.creates_on_update:
            raise not_found(resource.plural, resource.group, metadata["name"])
        if uid := metadata.get("uid"):
            raise uid_conflict(resource, metadata["name"], uid, "")
        without_version = {key: value for key, value in metadata.items() if key != "resourceVersion"}
        return self.create(resource, given | {"metadata": without_version}, namespace)

    def delete(self, resource: Resource, namespace: str, name: str, *, preconditions: Obj | None = None) -> Obj:
        """Delete an object, or mark it when finalizers (or a namespace's content) hold it. Errors: 404, 409, 403."""
        old = self.get(resource, namespace, name)
        for field, value in (preconditions or {}).items():
            if value and old["metadata"].get(field) != value:
                found = old["metadata"].get(field)
                why = f"the UID in the precondition ({value}) does not match the UID in record ({found})" if field == "uid" else MODIFIED
                raise conflict(resource.plural, resource.group, name, why)
        if resource.plural == "namespaces":
            return self._terminate(resource, old)
        if old["metadata"].get("finalizers"):
            if old["metadata"].get("deletionTimestamp"):
                return old
            marks = {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
            return self._write(resource, old, old | {"metadata": old["metadata"] | marks})
        return self._remove(resource, old)

    def compact(self) -> None:
        """Forget the history: watches and continue tokens from before now get 410."""
        self._history.clear()
        self.compacted = self.version

    def changes_since(self, version: int) -> Iterator[Change]:
        """The changes after `version`. Errors: 410 when some of them are forgotten."""
        if version < self.compacted:
            raise expired(f"too old resource version: {version} ({self.compacted})")
        return (change for change in list(self._history) if change.version > version)

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` at each write from now on, in order; returns the call that ends it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def _require_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        found = self.get(RESOURCES["namespaces"], "", namespace)
        if found["metadata"].get("deletionTimestamp"):
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource.plural, resource.group, name, why, cause=cause)

    def _generated_name(self, resource: Resource, namespace: str, metadata: Obj, uid: str) -> str:
        prefix = metadata.get("generateName")
        if not prefix:
            raise StatusError(422, f'{resource.kind} "" is invalid: metadata.name: Required value: name or generateName is required')
        digits = uuid.UUID(uid).bytes
        return str(prefix) + "".join(_SUFFIX[digit % len(_SUFFIX)] for digit in digits[:5])

    def _terminate(self, resource: Resource, old: Obj) -> Obj:
        """A namespace stays Terminating: nothing here empties it, as on a real server without controllers."""
        name = old["metadata"]["name"]
        if name in _UNDELETABLE:
            raise forbidden(resource.plural, resource.group, name, "this namespace may not be deleted")
        if old["metadata"].get("deletionTimestamp"):
            return old
        status = (old.get("status") or {}) | {"phase": "Terminating"}
        return self._write(resource, old, old | {"metadata": old["metadata"] | {"deletionTimestamp": _now()}, "status": status})

    def _write(self, resource: Resource, old: Obj | None, new: Obj) -> Obj:
        self.version += 1
        stored = new | {"metadata": new["metadata"] | {"resourceVersion": str(self.version)}}
        self._objects[resource.plural][_key(stored)] = stored
        self._publish(Change(version=self.version, resource=resource.plural, old=old, new=stored, hidden_from=self.hidden_from()))
        return stored

    def _remove(self, resource: Resource, old: Obj) -> Obj:
        self.version += 1
        del self._objects[resource.plural][_key(old)]
        gone = old | {"metadata": old["metadata"] | {"resourceVersion": str(self.version)}}
        self._publish(Change(version=self.version, resource=resource.plural, old=old, new=None, gone=gone, hidden_from=self.hidden_from()))
        return old

    def _publish(self, change: Change) -> None:
        self._history.append(change)
        while len(self._history) > self._history_limit:
            self.compacted = self._history.popleft().version
        for listener in list(self._listeners):
            listener(change)


def _key(obj: Obj) -> tuple[str, str]:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
