"""Asks the daemon on this host for what it knows and does, or to announce VIPs anew, over its unix socket.

Input: the socket's path. Output: documents of `kvip.observe`. It must not need the Kubernetes client, nor more rights than the socket asks.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
from typing import TypeVar
from urllib.parse import quote

import msgspec

from kvip.errors import UNREADABLE, KvipError
from kvip.observe.bursts import BurstOrder, BurstView
from kvip.observe.explaining import Explanation
from kvip.observe.state import StateView
from kvip.options import OPTIONS
from kvip.settings import SOCKET_NAME

T = TypeVar("T", StateView, Explanation, BurstView)

DEADLINE_S = 5.0
LARGEST_BYTES = 256 << 20
_STATE_DIR = next(option for option in OPTIONS if option.field == "state_dir")
_SOCKET = next(option for option in OPTIONS if option.field == "socket")


class NoDaemon(KvipError):
    """Nobody answers on the socket."""


def default_socket() -> str:
    """Where the daemon of this container or host has its socket, by the variables of its settings."""
    given = os.environ.get(_SOCKET.variable, "")
    return given if given and given != "off" else f"{os.environ.get(_STATE_DIR.variable) or _STATE_DIR.default}/{SOCKET_NAME}"


def state(path: str) -> StateView:
    """What the daemon knows and does now. Raises NoDaemon, or KvipError for an answer that cannot be used."""
    return _decode(ask(path, "/state"), StateView)


def explanation(path: str, service: str) -> Explanation:
    """Why a Service (namespace/name) has its VIPs, or has not. Raises as `state`."""
    return _decode(ask(path, f"/explain?service={quote(service, safe='')}"), Explanation)


def begin_burst(path: str, order: BurstOrder) -> BurstView:
    """Have VIPs announced anew, as far as the daemon holds them. Raises as `state`."""
    return _decode(ask(path, "/announce", order=msgspec.json.encode(order)), BurstView)


def burst(path: str, name: str) -> BurstView:
    """How far a burst is. Raises as `state`."""
    return _decode(ask(path, f"/announce?id={quote(name, safe='')}"), BurstView)


def ask(path: str, target: str, *, order: bytes | None = None) -> bytes:
    """The JSON document at `target`, or the answer to an order."""
    connection = http.client.HTTPConnection("localhost", timeout=DEADLINE_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.sock.settimeout(DEADLINE_S)
        connection.sock.connect(path)
        connection.request("GET" if order is None else "POST", target, body=order, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read(LARGEST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise NoDaemon(f"no daemon answers on {path}: {_why(error)}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise KvipError(f"the daemon on {path} answers {target} with {response.status}: {body[:200].decode(errors='replace').strip()}")
    return body


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise KvipError(f"the daemon's answer cannot be read ({error}): is it of another version than this command?") from error


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"it did not answer within {DEADLINE_S:g} s"
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ENOENT:
        return "there is no such socket; --socket names another, as its setting `socket` or `state-dir` does"
    if code == errno.EACCES:
        return "only its owner may ask (root, as a rule); run this in the daemon's pod, or with sudo"
    if code == errno.ECONNREFUSED:
        return "the daemon that made it is dead"
    return str(error) or type(error).__name__
