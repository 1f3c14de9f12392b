"""The one tree of errors that kvip raises on purpose.

Every message says what failed, on which object, and what happens next or what to change.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a text that is not the document that is expected: RecursionError where it is nested without end."""


class KvipError(Exception):
    """Root of all errors that kvip raises on purpose."""


class ConfigError(KvipError):
    """A setting that cannot be used; the command exits with code 2.

    `path` is the setting's name as the reference lists it; `source` tells where the value came from
    (a flag, a variable, a file), empty for a default.
    """

    def __init__(self, path: str, problem: str, *, source: str = "") -> None:
        self.path = path
        self.problem = problem
        self.source = source
        origin = f" (from {source})" if source else ""
        super().__init__(f"{path}: {problem}{origin}")


class ApiError(KvipError):
    """An answer of the API server other than success, or no answer at all.

    `status` is the HTTP status, 0 when no answer came (refused, timed out, TLS failed). `reason` is the
    `reason` of the `metav1.Status` body ("Conflict", "Expired", ...), or the name of the transport error.
    """

    def __init__(self, verb: str, path: str, *, status: int, reason: str, message: str = "", retry_after_s: float = 0.0) -> None:
        self.verb = verb
        self.path = path
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        super().__init__(f"{verb} {path}: {status or 'no answer'} {reason}{': ' + message if message else ''}")


class NetlinkError(KvipError):
    """A netlink request that the kernel refused. `errno` is positive; `ext_ack` is the kernel's own text."""

    def __init__(self, errno: int, operation: str, target: str, *, ext_ack: str = "") -> None:
        self.errno = errno
        self.operation = operation
        self.target = target
        self.ext_ack = ext_ack
        super().__init__(f"{operation} {target}: {ext_ack or os.strerror(errno)} (errno {errno})")


class AnnounceError(KvipError):
    """A packet socket that cannot be opened or used on a NIC."""

    def __init__(self, nic: str, problem: str) -> None:
        self.nic = nic
        super().__init__(f"cannot announce on {nic}: {problem}")


class SwitchError(KvipError):
    """Tables of kvip's in nf_tables (the dead-man's switch, the Services' ports) could not be read or changed. The transaction that failed
    changed nothing."""
