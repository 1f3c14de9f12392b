"""The errors of the API: exceptions that carry a `metav1.Status`.

Inputs: what went wrong. Outputs: `StatusError`, whose `body()` is what the client reads. Wording and codes are those of
k8s.io/apimachinery/pkg/api/errors, as kube-apiserver v1.34.4 sends them.
"""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]
"""A Kubernetes object as decoded JSON: a server that stores whatever it is given knows no narrower type."""

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class StatusError(Exception):
    """An answer other than success."""

    def __init__(self, code: int, message: str, *, reason: str | None = None, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = REASONS.get(code, "") if reason is None else reason
        self.message = message
        self.details = details

    def body(self) -> Obj:
        """The `metav1.Status`."""
        body: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body

    @property
    def retry_after_s(self) -> int:
        """Seconds for the Retry-After header, 0 = none."""
        return int((self.details or {}).get("retryAfterSeconds", 0))


def _details(name: str, group: str, kind: str) -> Obj:
    return ({"name": name} if name else {}) | ({"group": group} if group else {}) | {"kind": kind}


def _qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def not_found(resource: str, group: str, name: str) -> StatusError:
    """404 for a missing object."""
    return StatusError(404, f'{_qualified(resource, group)} "{name}" not found', details=_details(name, group, resource))


def no_such_path() -> StatusError:
    """404 for a path that this server does not know."""
    return StatusError(404, "the server could not find the requested resource", details={})


def already_exists(resource: str, group: str, name: str) -> StatusError:
    """409 for a create of what is there."""
    message = f'{_qualified(resource, group)} "{name}" already exists'
    return StatusError(409, message, reason="AlreadyExists", details=_details(name, group, resource))


def conflict(resource: str, group: str, name: str, why: str) -> StatusError:
    """409 for a stale resourceVersion or a wrong UID."""
    message = f'Operation cannot be fulfilled on {_qualified(resource, group)} "{name}": {why}'
    return StatusError(409, message, details=_details(name, group, resource))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def forbidden(resource: str, group: str, name: str, why: str, *, cause: Obj | None = None) -> StatusError:
    """403."""
    details = _details(name, group, resource) | ({"causes": [cause]} if cause else {})
    return StatusError(403, f'{_qualified(resource, group)} "{name}" is forbidden: {why}', details=details)


def invalid(kind: str, group: str, name: str, field: str, problem: str) -> StatusError:
    """422 about one field; `problem` starts with the kind of problem ("Required value", "Invalid value: ...")."""
    cause = {"message": problem, "field": field}
    details = _details(name, group, kind) | {"causes": [cause]}
    return StatusError(422, f'{_qualified(kind, group)} "{name}" is invalid: {field}: {problem}', details=details)


def expired(message: str) -> StatusError:
    """410: history or a continue token that is gone."""
    return StatusError(410, message)


def future_version(requested: int, current: int) -> StatusError:
    """504: a List not older than a version that does not exist yet (the real server says so after 3 s, this one at once)."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    details = {"causes": [cause], "retryAfterSeconds": 1}
    return StatusError(504, f"Timeout: Too large resource version: {requested}, current: {current}", details=details)


def injected(code: int) -> StatusError:
    """The error of a fault rule; 429 and 503 carry Retry-After: 1 as the real server's flow control does."""
    details = {"retryAfterSeconds": 1} if code in {429, 503} else None
    return StatusError(code, f"injected by the lab: {REASONS.get(code, 'error')}", details=details)
