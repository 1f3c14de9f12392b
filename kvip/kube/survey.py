"""Asks the API server what doctor wants to know: the cluster's Services, Nodes, Leases and Pods, and what we may do.

In: an `Api`, settings. Out: `ClusterFacts`, and what could not be seen. It reads only; a review of rights is not stored.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec

from kvip.clock import Clock
from kvip.core.desired import Rules
from kvip.core.doctor.facts import ClusterFacts, Pod, Right, Unseen
from kvip.core.model import Vip
from kvip.core.objects import ApiStruct, Lease, Node, ObjectMeta, Service
from kvip.core.rights import rules_for
from kvip.core.strays import Owner, addresses_in, owner_of
from kvip.errors import ApiError
from kvip.kube import reviews
from kvip.kube.api import Api, path_of
from kvip.kube.decode import EnvelopeError
from kvip.kube.listing import list_all
from kvip.settings import Settings

DEADLINE_S = 3.0
"""For each request; the first that is not answered at all ends the survey."""

A = TypeVar("A")


class _Variable(ApiStruct, frozen=True):
    name: str = ""
    value: str = ""


class _Container(ApiStruct, frozen=True):
    image: str = ""
    env: tuple[_Variable, ...] | None = None


class _PodSpec(ApiStruct, frozen=True):
    containers: tuple[_Container, ...] | None = None


class _Pod(ApiStruct, frozen=True):
    metadata: ObjectMeta
    spec: _PodSpec = _PodSpec()


class _Silent(Exception):
    """The API server does not answer."""


def rights_of(settings: Settings) -> tuple[Right, ...]:
    """Every right that the generated manifest grants for these settings, one by one."""
    return tuple(
        sorted(
            Right(namespace=namespace, group=rule.group, resource=resource, verb=verb)
            for namespace, rules in rules_for(settings).items()
            for rule in rules
            for resource in rule.resources
            for verb in rule.verbs
        )
    )


class Survey:
    """One round of questions. `unseen` grows with what was not answered."""

    def __init__(self, api: Api, settings: Settings, *, server: str, rules: Rules, clock: Clock) -> None:
        self._api = api
        self._settings = settings
        self._server = server
        self._rules = rules
        self._clock = clock
        self.unseen: list[Unseen] = []

    async def run(self) -> ClusterFacts | None:
        """Ask everything; None when the API server does not answer. A single refusal is only noted."""
        facts = ClusterFacts(server=self._server)
        try:
            # One field at a time: what was answered before the server went silent still counts.
            facts = msgspec.structs.replace(facts, skew_s=await self._ask("the API server's clock", self._skew_s()))
            facts = msgspec.structs.replace(facts, user=await self._ask("the name that the API server has for us", self._who()))
            facts = msgspec.structs.replace(facts, nodes=await self._ask("Nodes", self._nodes()))
            facts = msgspec.structs.replace(facts, vips=await self._ask("Services", self._vips()))
            facts = msgspec.structs.replace(facts, leases=await self._ask("Leases", self._leases()))
            facts = msgspec.structs.replace(facts, pods=await self._ask("Pods on this node", self._pods()))
            asked = rights_of(self._settings)
            denied = await self._ask("rights", reviews.denied(self._api, asked, deadline_s=DEADLINE_S))
        except _Silent as error:
            self.unseen.append(Unseen(what="the cluster", why=str(error)))
            return None if facts == ClusterFacts(server=self._server) else facts
        return facts if denied is None else msgspec.structs.replace(facts, asked=asked, denied=tuple(denied))

    async def _ask(self, what: str, question: Awaitable[A]) -> A | None:
        try:
            return await question
        except ApiError as error:
            if not error.status:
                raise _Silent(f"no answer from {self._server}: {error.reason} {error.message}".rstrip()) from error
            self.unseen.append(Unseen(what=what, why=f"{error.status} {error.reason}"))
        except EnvelopeError as error:
            self.unseen.append(Unseen(what=what, why=str(error)))
        return None

    async def _skew_s(self) -> float | None:
        before = self._clock.wall()
        text = await self._api.date(deadline_s=DEADLINE_S)
        return skew_s(text, before=before, after=self._clock.wall())

    async def _who(self) -> str:
        return await reviews.who_am_i(self._api, deadline_s=DEADLINE_S)

    async def _nodes(self) -> tuple[Node, ...]:
        return tuple(await list_all(self._api, "/api/v1/nodes", Node, deadline_s=DEADLINE_S))

    async def _vips(self) -> dict[Vip, tuple[Owner, ...]]:
        namespace = self._settings.watched_namespace
        scope = path_of("namespaces", namespace) if namespace else ""
        found: dict[Vip, tuple[Owner, ...]] = {}
        for service in await list_all(self._api, f"/api/v1{scope}/services", Service, deadline_s=DEADLINE_S):
            for vip in addresses_in(service):
                found[vip] = (*found.get(vip, ()), owner_of(service, self._rules))
        return found

    async def _leases(self) -> tuple[Lease, ...]:
        path = path_of("apis", "coordination.k8s.io", "v1", "namespaces", self._settings.namespace, "leases")
        return tuple(await list_all(self._api, path, Lease, deadline_s=DEADLINE_S))

    async def _pods(self) -> tuple[Pod, ...]:
        params = {"fieldSelector": f"spec.nodeName={self._settings.node_name}"}
        return tuple(_pod(pod) for pod in await list_all(self._api, "/api/v1/pods", _Pod, params=params, deadline_s=DEADLINE_S))


def skew_s(date: str, *, before: datetime, after: datetime) -> float | None:
    """The server's clock minus ours, seconds, from a Date header (RFC 9110) and our time before and after the request.

    0 where the header fits; None for one that cannot be read. It counts whole seconds, cut off.
    """
    try:
        there = parsedate_to_datetime(date)
    except ValueError:
        return None
    if there.tzinfo is None:
        return None
    earliest, latest = (there - after).total_seconds(), (there - before).total_seconds() + 1.0
    return 0.0 if earliest <= 0 <= latest else earliest if earliest > 0 else latest


def _pod(pod: _Pod) -> Pod:
    containers = pod.spec.containers or ()
    return Pod(
        key=f"{pod.metadata.namespace}/{pod.metadata.name}",
        images=tuple(container.image for container in containers),
        environment={variable.name: variable.value for container in containers for variable in container.env or () if variable.value},
    )
