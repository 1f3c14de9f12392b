"""Reads the settings: flag > KVIP_ variable > kube-vip's variable > kube-vip's flag > TOML file > default, and checks them.

Inputs: arguments, environment, files through a port. Outputs: `Loaded` (settings and warnings), flags for a parser.
Raises ConfigError, and nothing else, for what cannot be used. Must not log, and must not touch the network.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NoReturn, Protocol

import msgspec

from kvip.aliases import guess, judge, parse_bool, source_of, unknown
from kvip.checks import check_settings, parse_number, parse_value, shown
from kvip.errors import ConfigError
from kvip.kube_vip_flags import FLAGS
from kvip.options import OPTIONS, Option
from kvip.settings import SOCKET_NAME, Settings

_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_MAX_FILE_BYTES = 1 << 20
_SETTINGS = (
    "Each can be a flag, a variable (KVIP_LEASE_DURATION for --lease-duration), a variable or flag of kube-vip, or a line of the TOML file "
    "(lease-duration = 5), in this order. docs/configuration.md lists them all; the defaults do for most clusters."
)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a daemon, and what its operator should be told about them."""

    settings: Settings
    warnings: tuple[str, ...] = ()


class Files(Protocol):
    """What `load` asks of the file system. `read` raises OSError."""

    def read(self, path: str) -> bytes: ...

    def exists(self, path: str) -> bool: ...


class SystemFiles:
    """The file system."""

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read(_MAX_FILE_BYTES + 1)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    """A value as it was given: text from a flag or variable, any TOML type from a file."""

    value: object
    source: str
    alias: str = ""
    """The kube-vip variable it came from; empty otherwise."""
    typed: bool = False
    """True when the value has a type of its own (TOML)."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError("command line", message if len(message) <= 200 else f"{message[:200]}...")


def add_arguments(parser: argparse.ArgumentParser, *, file: bool = True) -> None:
    """Add the flags of all settings to a parser. Values stay text, under the field's name; absent ones are left out.

    `file`: with the flag that names a TOML file.
    """
    if file:
        parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="TOML file with settings")
    group = parser.add_argument_group("settings", _SETTINGS)
    for option in OPTIONS:
        unit = f" [{option.unit}]" if option.unit else ""
        text = f"{option.help}{unit} (default: {option.shown_default})".replace("%", "%%").replace("`", "")
        switch = option.kind == "switch"
        choices = ("true", "false") if switch else option.choices
        group.add_argument(
            option.flag,
            dest=option.field,
            default=argparse.SUPPRESS,
            help=text,
            nargs="?" if switch else None,
            const="true" if switch else None,
            metavar="|".join(filter(None, choices)) or option.name.rpartition("-")[2].upper(),
        )
        if switch and option.default:
            no = f"--no-{option.name}"
            group.add_argument(
                no, dest=option.field, action="store_const", const="false", default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )


def _add_kube_vip_arguments(parser: argparse.ArgumentParser) -> None:
    """kube-vip's flags, under their own names with dashes. As in Go, one that is a switch needs no value."""
    parser.add_argument("-n", dest="namespace", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for flag in FLAGS:
        name = f"--{flag}"
        parser.add_argument(name, dest=name, nargs="?", const="true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


@cache
def _parser() -> _Parser:
    """Of the daemon's command line."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    _add_kube_vip_arguments(parser)
    return parser


def load(argv: Sequence[str], environ: Mapping[str, str], *, files: Files | None = None, hostname: str | None = None) -> Loaded:
    """Settings from flags (without the command's name), environment and TOML file.

    Raises ConfigError with the setting's name and the source of the value. `files` and `hostname` default to this machine's.
    """
    files = SystemFiles() if files is None else files
    flags: dict[str, str] = vars(_parser().parse_args(list(argv)))
    by_flag = {FLAGS[flag]: f"--{flag}" for flag in FLAGS if f"--{flag}" in flags and not environ.get(FLAGS[flag])}
    environ = {**environ, **{variable: flags[flag] for variable, flag in by_flag.items()}}
    warnings: list[str] = []
    given = _gather(flags, environ, by_flag, _toml(flags, environ, files))
    _refuse_contradiction(given.get("election"), environ)
    warnings += judge(environ, by_flag)
    values = {option.field: option.default for option in OPTIONS}
    for option in OPTIONS:
        if value := given.get(option.field):
            values[option.field] = parse_value(option, _from_kube_vip(option, value, warnings), source=value.source, typed=value.typed)
    sources = {"node_name": "the hostname; set node-name"} | {field: value.source for field, value in given.items()}
    _resolve(values, given, environ, files=files, hostname=socket.gethostname() if hostname is None else hostname)
    settings = msgspec.convert(values, Settings)
    check_settings(settings, sources)
    warnings += unknown(environ)
    return Loaded(settings=settings, warnings=tuple(warnings))


def _toml(flags: Mapping[str, str], environ: Mapping[str, str], files: Files) -> dict[str, _Given]:
    """The TOML file's values by field."""
    path, source = flags.get("config", ""), "flag --config"
    if "config" not in flags:
        path, source = environ.get("KVIP_CONFIG", ""), "variable KVIP_CONFIG"
    if not path:
        return {}
    try:
        content = files.read(path)
        if len(content) > _MAX_FILE_BYTES:
            raise ConfigError("config", f"{shown(path)} is larger than {_MAX_FILE_BYTES} bytes", source=source)
        table = tomllib.loads(content.decode())
    except OSError as error:
        raise ConfigError("config", f"cannot read {shown(path)}: {error.strerror or error}", source=source) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, a NUL in the path, integers of 4,300 digits
        raise ConfigError("config", f"{shown(path)} is not TOML: {str(error)[:200]}", source=source) from error
    by_name = {option.name: option for option in OPTIONS}
    for key in table:
        if key not in by_name:
            raise ConfigError(key[:60], f"no such setting{guess(key, by_name)}", source=f"file {path}")
    return {by_name[key].field: _Given(value=value, source=f"file {path}", typed=True) for key, value in table.items()}


def _gather(
    flags: Mapping[str, str], environ: Mapping[str, str], by_flag: Mapping[str, str], toml: Mapping[str, _Given]
) -> dict[str, _Given]:
    """The value that counts for each setting that was given one. An empty variable is not set.

    `by_flag`: variables of kube-vip's whose value is that of its flag.
    """
    given = dict(toml)
    for option in OPTIONS:
        for alias in reversed(option.alias):
            if environ.get(alias):
                given[option.field] = _Given(value=environ[alias], source=source_of(alias, by_flag), alias=alias)
        if environ.get(option.variable):
            given[option.field] = _Given(value=environ[option.variable], source=f"variable {option.variable}")
        if option.field in flags:
            given[option.field] = _Given(value=flags[option.field], source=f"flag {option.flag}")
    return given


def _from_kube_vip(option: Option, given: _Given, warnings: list[str]) -> object:
    """The value of one of kube-vip's variables in kvip's terms."""
    if given.alias == "vip_loglevel" and isinstance(given.value, str) and re.fullmatch(r"[+-]?[0-9]{1,9}", given.value):
        level = int(given.value)  # Go's log/slog: debug -4, info 0, warn 4, error 8
        return "debug" if level < 0 else "info" if level < 4 else "warning" if level < 8 else "error"
    if given.alias == "vip_arpRate":
        in_millis = msgspec.structs.replace(option, kind="integer", unit="milliseconds", zero="", at_least=0, at_most=86_400_000)
        millis = parse_number(in_millis, given.value, source=given.source)
        if millis < 500:  # kube-vip's own rule
            warnings.append(f"variable vip_arpRate: {millis:g} ms is below 500 ms, 3000 ms is used, as kube-vip does")
            millis = 3000
        return millis / 1000
    return given.value


def _resolve(
    values: dict[str, str | float | bool], given: Mapping[str, _Given], environ: Mapping[str, str], *, files: Files, hostname: str
) -> None:
    """Replace "not set" and "automatic" by what they stand for."""
    # Node names are lower-case (RFC 1123 subdomains); kubelet lower-cases the hostname for its own.
    values["node_name"] = str(values["node_name"] or hostname).lower()
    values["election"] = _election(str(values["election"]), environ, on_demand=bool(values["per_service_on_demand"]))
    if values["per_service_on_demand"] and values["election"] == "claims":
        problem = "a Lease for some Services goes with election=global; set that, or unset this, on every node"
        raise ConfigError("per-service-on-demand", problem, source=given["per_service_on_demand"].source)
    if values["metrics_address"] == "off":
        values["metrics_address"] = ""
    values["socket"] = "" if values["socket"] == "off" else values["socket"] or f"{values['state_dir']}/{SOCKET_NAME}"
    values["kubeconfig"] = _kubeconfig(str(values["kubeconfig"]), given.get("kubeconfig"), environ, files)
    namespace = given.get("namespace")
    if namespace and namespace.alias and files.exists(f"{_SERVICE_ACCOUNT}/namespace"):
        _check_pod_namespace(str(namespace.value), files)


def _election(mode: str, environ: Mapping[str, str], *, on_demand: bool) -> str:
    """The mode that was set; else the one that kube-vip's variables mean; else `claims` (PROTOCOL G5)."""
    if mode:
        return mode
    if parse_bool(environ.get("svc_election", "")):
        return "per-service"
    return "global" if on_demand or any(value and name.startswith(("vip_", "svc_")) for name, value in environ.items()) else "claims"


def _refuse_contradiction(election: _Given | None, environ: Mapping[str, str]) -> None:
    if election is not None and election.value == "global" and parse_bool(environ.get("svc_election", "")):
        problem = "'global' contradicts svc_election=true; unset svc_election, on every node"
        raise ConfigError("election", problem, source=f"{election.source}, variable svc_election")


def _kubeconfig(path: str, given: _Given | None, environ: Mapping[str, str], files: Files) -> str:
    """The kubeconfig to use; empty for the pod's service account."""
    if path and given:
        # KUBECONFIG may list several files, of which kubectl skips those that are missing.
        if not any(files.exists(part) for part in (path.split(":") if given.alias == "KUBECONFIG" else [path]) if part):
            raise ConfigError("kubeconfig", f"{shown(path)} does not exist", source=given.source)
        return path
    if environ.get("KUBERNETES_SERVICE_HOST") and files.exists(f"{_SERVICE_ACCOUNT}/token"):
        return ""
    home = environ.get("HOME", "")
    candidates = ["/etc/kubernetes/admin.conf", *([f"{home}/.kube/config"] if home else [])]
    return next((candidate for candidate in candidates if files.exists(candidate)), "")


def _check_pod_namespace(namespace: str, files: Files) -> None:
    """kube-vip keeps the Lease of Services in its pod's namespace, whatever cp_namespace says (pkg/lease: NamespaceName)."""
    try:
        own = files.read(f"{_SERVICE_ACCOUNT}/namespace").decode(errors="replace").strip()
    except OSError:
        return
    if own and own != namespace:
        problem = (
            f"kube-vip would keep its Lease in the pod's namespace {shown(own)} and not in {shown(namespace)}; "
            "set KVIP_NAMESPACE to the namespace that all nodes use"
        )
        raise ConfigError("namespace", problem, source="variable cp_namespace")
