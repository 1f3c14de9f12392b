"""Says in one line what this machine lacks for `make demo` and `make test`, and whether a lab can be made on it.

In: nothing but the standard library, so that it runs before anything is installed; its syntax is that of Python 3.9, so that an old
Python gets a message and no SyntaxError. Out: `python3 -m lab.preflight` exits 0, or prints one line with the Debian packages
to install and exits 1. `namespaces()` tells how this process gets network namespaces of its own: as root, or by a user namespace.

Must not: install or change anything; what it tries out, it tries in namespaces that end with the try.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from typing import Callable, NamedTuple, Optional  # noqa: UP035 - must import on Python 3.9

MIN_PYTHON = (3, 11)
TOOLS = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux"}
"""Programs that the lab cannot do without, and the Debian packages that they are in."""
TRY_TIMEOUT_S = 10.0

# What the lab does first, in small: a bridge, a wire, a sysctl (containers often mount /proc/sys read-only), nf_tables.
_TRY = """set -e
ip link add kvip-try type bridge
ip link add kvip-try0 type veth peer name kvip-try1
echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter
nft add table inet kvip-try
"""
_ROOT = ["unshare", "-n", "-m"]
_USER = ["unshare", "-r", "-n", "-m"]


class Host(NamedTuple):
    """What was found on this machine."""

    version: tuple[int, ...]
    executable: str
    tools: frozenset[str]
    """Those of `TOOLS` that are there."""
    venv: bool
    compiler: bool
    headers: bool


class Namespaces(NamedTuple):
    """How to get network namespaces: `command` to put before a program, or None and the `reason`."""

    command: Optional[list[str]]  # noqa: UP045 - as the import above
    reason: str


def search_path() -> str:
    """PATH with the directories of system programs, which Debian leaves out of an ordinary user's."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*path, *(extra for extra in ("/usr/sbin", "/sbin") if extra not in path)])


def look() -> Host:
    """Look at this machine and this Python."""
    compiler = shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc"))
    return Host(
        version=tuple(sys.version_info[:3]),
        executable=sys.executable,
        tools=frozenset(tool for tool in TOOLS if shutil.which(tool, path=search_path())),
        # Debian ships venv with Python and the wheels that it needs (ensurepip) in python3-venv.
        venv=all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")),
        compiler=bool(compiler) and shutil.which(compiler[0], path=search_path()) is not None,
        headers=os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
    )


def verdict(host: Host) -> tuple[int, str]:
    """The exit code and the line to print, "" for nothing to say."""
    if host.version[:2] < MIN_PYTHON:
        wanted, found = ".".join(map(str, MIN_PYTHON)), ".".join(map(str, host.version))
        return 1, f"kvip needs Python {wanted} or newer, {host.executable} is {found}; name another one: make PYTHON=/path/to/python3 ..."
    missing = [tool for tool in TOOLS if tool not in host.tools] + ([] if host.venv else ["python3's venv"])
    packages = list(dict.fromkeys(TOOLS[tool] for tool in TOOLS if tool not in host.tools))
    packages += [] if host.compiler else ["gcc"]
    packages += [] if host.venv else ["python3-venv"]
    packages += [] if host.headers else ["python3-dev"]
    install = f"apt-get install -y {' '.join(packages)}"
    if missing:
        return 1, f"missing: {', '.join(missing)}; install with: {install}"
    if packages:
        return 0, f"note: no C compiler or no Python headers, so frames are built in Python, slower; for the extension: {install}"
    return 0, ""


def _try(command: list[str]) -> str:
    """Why a lab cannot be made by `command`; "" when it can."""
    env = {**os.environ, "PATH": search_path(), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*command, "/bin/sh", "-c", _TRY], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=TRY_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not done after {TRY_TIMEOUT_S:g} s"
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else " ".join((done.stderr or f"exit {done.returncode}").split())


def namespaces(attempt: Callable[[list[str]], str] = _try, *, root: Optional[bool] = None) -> Namespaces:  # noqa: UP045
    """How this process can make network namespaces, found by trying: as root, else as root of a user namespace.

    `attempt` answers why a command does not work ("" = it works); `root` defaults to this process being root.
    """
    root = os.geteuid() == 0 if root is None else root
    reasons = []
    for command in [_ROOT, _USER] if root else [_USER]:
        reason = attempt(command)
        if not reason:
            return Namespaces(list(command), "")
        reasons.append(f"`{' '.join(command)}`: {reason}")
    advice = (
        "a container needs CAP_SYS_ADMIN, CAP_NET_ADMIN and a writable /proc/sys"
        if root
        else "run it as root (user namespaces are closed here)"
    )
    return Namespaces(None, f"no network namespace can be made: {'; '.join(reasons)}; {advice}")


def main(argv: Optional[list[str]] = None) -> int:  # noqa: UP045
    """Check, print at most one line for each problem, return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m lab.preflight", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root-or-userns", action="store_true", help="also try whether network namespaces can be made")
    arguments = parser.parse_args(argv)
    code, line = verdict(look())
    if code == 0 and arguments.root_or_userns:
        found = namespaces()
        if found.command is None:
            code, line = 1, found.reason
    if line:
        print(line, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
