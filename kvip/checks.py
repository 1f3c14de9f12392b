"""Turns a given value into a setting's value, and says what is wrong with one that cannot be used.

Inputs: a value and the `Option` it is for. Outputs: the typed value, or ConfigError with the setting's name, the value's
source and a way out. Pure: must not read the environment or files.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from kvip.aliases import parse_bool
from kvip.errors import ConfigError
from kvip.options import Option
from kvip.settings import Settings, split_list

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_CLASS = re.compile(rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_LISTEN = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_SHOWN = 60
LONGEST_SOCKET = 103
"""Bytes: sun_path has 107 beside its NUL (unix(7)), and the socket is first made beside its place, with `.new` behind its name."""


def shown(value: object) -> str:
    """A given value for a message: quoted, on one line, of bounded length."""
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value) if not _is_huge(value) else "a number out of all bounds"
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}..."


def _is_huge(value: object) -> bool:
    # repr() of an int of more than 4,300 digits raises ValueError (CVE-2020-10735).
    return isinstance(value, int) and value.bit_length() > 256


def parse_value(option: Option, value: object, *, source: str, typed: bool = False) -> str | float | bool:
    """The value as the setting's type, within its bounds. `typed`: it has a type of its own, so text is no number and no switch."""

    def refuse(expected: str) -> NoReturn:
        raise ConfigError(option.name, f"{expected} is expected, got {shown(value)}", source=source)

    is_number = option.kind in ("number", "integer")
    if typed and isinstance(value, str) and (is_number or option.kind == "switch"):
        refuse(f"a {'number' if is_number else 'switch'} without quotes")
    if option.kind == "switch":
        switch = value if isinstance(value, bool) else parse_bool(value) if isinstance(value, str) else None
        return refuse("true or false") if switch is None else switch
    if is_number:
        return parse_number(option, value, source=source)
    if not isinstance(value, str):
        refuse("text")
    if option.kind == "choice" and value not in option.choices:
        refuse(f"one of {', '.join(choice for choice in option.choices if choice)}")
    if not value.isprintable():
        raise ConfigError(option.name, f"has characters that cannot be printed: {shown(value)}", source=source)
    return value


def parse_number(option: Option, value: object, *, source: str) -> float:
    """A finite number within the setting's bounds; an int where the setting is one."""

    def refuse(problem: str) -> NoReturn:
        raise ConfigError(option.name, problem, source=source)

    expected = f"a {'whole ' if option.kind == 'integer' else ''}number{f' ({option.unit})' if option.unit else ''} is expected"
    if isinstance(value, bool) or not isinstance(value, str | int | float) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        refuse(f"{expected}, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (option.kind == "integer" and not number.is_integer()):
        refuse(f"{expected}, got {shown(value)}")
    if option.zero and number == 0:
        return 0
    if option.at_least is not None and number < option.at_least:
        refuse(f"{number:g} is below the least allowed, {option.at_least:g}{f' (or 0: {option.zero})' if option.zero else ''}")
    if option.at_most is not None and number > option.at_most:
        refuse(f"{number:g} is above the most allowed, {option.at_most:g}")
    return int(number) if option.kind == "integer" else number


def parse_listen(text: str) -> tuple[str, int]:
    """host and port of "host:port" or "[ipv6]:port"; host "" = all addresses. Raises ValueError that says what is wrong."""
    match = _LISTEN.fullmatch(text)
    if not match:
        raise ValueError(f"host:port, :port or [ipv6]:port is expected, got {shown(text)}")
    host, port = match["ipv6"] or match["host"] or "", int(match["port"])
    if port > 65_535:
        raise ValueError(f"port {port} is above 65535")
    try:
        if match["ipv6"]:
            ipaddress.IPv6Address(host)
        elif re.fullmatch(r"[0-9.]+", host):
            ipaddress.IPv4Address(host)
        elif host and not _DNS_SUBDOMAIN.fullmatch(host.lower()):
            raise ValueError
    except ValueError:
        raise ValueError(f"{shown(host)} is neither an IP address nor a host name") from None
    return host, port


def check_settings(settings: Settings, sources: Mapping[str, str]) -> None:
    """Raise ConfigError for names that Kubernetes or the kernel would refuse and timers that do not fit together.

    `sources` tells by field where a value came from.
    """
    for field, (name, _) in _TEXT_CHECKS.items():
        problem = text_fault(field, getattr(settings, field))
        if problem:
            raise ConfigError(name, problem, source=sources.get(field, ""))
    if "socket" in sources and len(os.fsencode(settings.socket)) > LONGEST_SOCKET:
        problem = f"{shown(settings.socket)} is longer than {LONGEST_SOCKET} bytes, the most that a unix socket's path may have (unix(7))"
        raise ConfigError("socket", problem, source=sources["socket"])
    _check_timers(settings, sources)
    if settings.watched_namespace and settings.stray_action == "remove":
        # A stray is what no Service has: with one namespace in view, it may be the VIP of a Service elsewhere.
        problem = "'remove' needs all Services in view, service-namespace shows those of one namespace; set stray-action=report"
        raise ConfigError("stray-action", problem, source=sources.get("stray_action", ""))
    _check_ports(settings, sources)
    if settings.ipv6_dad and not settings.probe:
        problem = "needs probe: only a probe finds out when the other host is gone; set probe=true"
        raise ConfigError("ipv6-dad", problem, source=sources.get("ipv6_dad", ""))


def text_fault(field: str, text: str) -> str:
    """What is wrong with the text of a setting that is a name, a path or a list; "" = nothing."""
    return _TEXT_CHECKS[field][1](text)


def _check_timers(settings: Settings, sources: Mapping[str, str]) -> None:
    """The margins without which two nodes could hold one VIP, or a holder would lose it by one slow renewal."""
    lease, renew, retry = settings.lease_duration_s, settings.renew_deadline_s, settings.retry_period_s
    margin = max(1.0, 0.2 * lease)
    rounding = 1e-9
    origin = ", ".join(
        dict.fromkeys(sources[field] for field in ("lease_duration_s", "renew_deadline_s", "retry_period_s") if field in sources)
    )
    if lease - renew < margin - rounding:
        longest = lease - margin
        lower = f"renew-deadline to at most {longest:g} s or " if longest >= 2 * retry else ""
        problem = (
            f"{renew:g} s leaves {lease - renew:g} s of lease-duration {lease:g} s, at least {margin:g} s must remain; "
            f"set {lower}lease-duration to at least {max(renew + 1, renew / 0.8):g} s"
        )
        raise ConfigError("renew-deadline", problem, source=origin)
    if renew < 2 * retry - rounding:
        problem = (
            f"{retry:g} s is more than half of renew-deadline {renew:g} s; "
            f"set retry-period to at most {renew / 2:g} s, or renew-deadline to at least {2 * retry:g} s"
        )
        raise ConfigError("retry-period", problem, source=origin)


def _check_ports(settings: Settings, sources: Mapping[str, str]) -> None:
    if settings.health_check_port and settings.metrics_address:
        port = parse_listen(settings.metrics_address)[1]
        if port == settings.health_check_port:
            problem = f"{port} is the port of metrics-address, which serves /healthz too; unset it, or use another port"
            raise ConfigError("health-check-port", problem, source=sources.get("health_check_port", ""))


def _subdomain(text: str) -> str:
    if _DNS_SUBDOMAIN.fullmatch(text) and len(text) <= 253:
        return ""
    return f"{shown(text)} is no DNS name (RFC 1123: a-z, 0-9, '-' and '.', at most 253 characters)"


def _label(text: str) -> str:
    return "" if _DNS_LABEL.fullmatch(text) else f"{shown(text)} is no DNS label (RFC 1123: a-z, 0-9 and '-', at most 63 characters)"


def _namespaces(text: str) -> str:
    # A list without a name must not come to mean "all".
    if text and not split_list(text):
        return f"{shown(text)} names no namespace; unset it to serve all"
    return next(filter(None, map(_label, split_list(text))), "")


def _networks(text: str) -> str:
    if text and not split_list(text):
        return f"{shown(text)} names no network; unset it to allow every address"
    return next(filter(None, map(_network, split_list(text))), "")


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        network = None
    if network is None or "%" in text:
        return f"{shown(text)} is no network such as 192.0.2.0/24 or 2001:db8::/64"
    given = text.partition("/")[0]
    return "" if ipaddress.ip_address(given) == network.network_address else f"{shown(text)} is an address inside {network}; write that"


def nic_name_fault(text: str) -> str:
    """Why a NIC cannot be called so, as the rest of a sentence; "" = it can (dev_valid_name() of net/core/dev.c)."""
    # IFNAMSIZ counts the terminating NUL.
    if len(text.encode()) > 15 or text in (".", "..") or re.search(r"[\s/:]", text):
        return "is no name of a NIC (at most 15 bytes, without '/', ':' and spaces)"
    return ""


def _interface(text: str) -> str:
    if text == "auto":
        return "'auto' is for services-interface only; name one NIC"
    return _services_interface(text)


def _services_interface(text: str) -> str:
    fault = nic_name_fault(text)
    return f"{shown(text)} {fault}" if fault else ""


def _listen(text: str) -> str:
    try:
        if text:
            parse_listen(text)
    except ValueError as error:
        return str(error)
    return ""


def _absolute(text: str) -> str:
    return "" if text.startswith("/") else f"an absolute path is expected, got {shown(text)}"


def _class(text: str) -> str:
    return "" if _CLASS.fullmatch(text) and len(text) <= 317 else f"{shown(text)} is no label-style name such as example.com/name"


_TEXT_CHECKS: dict[str, tuple[str, Callable[[str], str]]] = {
    "node_name": ("node-name", _subdomain),
    "interface": ("interface", _interface),
    "services_interface": ("services-interface", _services_interface),
    "namespace": ("namespace", _label),
    "service_namespace": ("service-namespace", _namespaces),
    "allow_cidr": ("allow-cidr", _networks),
    "lease_name": ("lease-name", _subdomain),
    "metrics_address": ("metrics-address", _listen),
    "state_dir": ("state-dir", _absolute),
    "socket": ("socket", lambda text: _absolute(text) if text else ""),
    "load_balancer_class": ("load-balancer-class", _class),
}
"""Field -> its name, and a function that says what is wrong with its text, or nothing."""
