"""Asks the API server who we are, and what we may do.

In: an `Api`, rights. Out: a name, and the rights that are denied. A review is not stored: nothing in the cluster changes
(authorization.k8s.io/v1 SelfSubjectAccessReview, authentication.k8s.io/v1 SelfSubjectReview).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from kvip.core.doctor.facts import Right
from kvip.errors import UNREADABLE, ApiError
from kvip.kube.api import Api

R = TypeVar("R")


class _Access(msgspec.Struct):
    allowed: bool = False


class _AccessReview(msgspec.Struct):
    status: _Access


class _User(msgspec.Struct):
    username: str = ""


class _Subject(msgspec.Struct):
    user: _User = msgspec.field(name="userInfo")


class _SubjectReview(msgspec.Struct):
    status: _Subject


async def who_am_i(api: Api, *, deadline_s: float) -> str:
    """The name that the server has for us. Raises ApiError; status 404 before Kubernetes 1.28."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await api.post(path, body=msgspec.json.encode(body), deadline_s=deadline_s)
    return _decode(answer, _SubjectReview, path).status.user.username


async def denied(api: Api, rights: Iterable[Right], *, deadline_s: float) -> list[Right]:
    """Those of the rights that we do not have, asked for one by one. Raises ApiError."""
    return [right for right in rights if not await _allowed(api, right, deadline_s=deadline_s)]


async def _allowed(api: Api, right: Right, *, deadline_s: float) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {
        "namespace": right.namespace,
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    answer = await api.post(path, body=msgspec.json.encode(body), deadline_s=deadline_s)
    return _decode(answer, _AccessReview, path).status.allowed


def _decode(answer: bytes, kind: type[R], path: str) -> R:
    try:
        return msgspec.json.decode(answer, type=kind)
    except UNREADABLE as error:
        raise ApiError("POST", path, status=0, reason="DecodeError", message=str(error)) from error
