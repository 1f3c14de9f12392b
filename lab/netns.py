"""Network namespaces from Python: create one, run a function or a command in it, let it go.

In: nothing but the rights of the calling process, which lives in a network namespace of its own
(`unshare -n -m`, without root `unshare -r -n -m`). Out: `NetNamespace` handles. A namespace is held by an open
descriptor, not by a name under /run/netns: it needs no mount, works without root, and is gone when the process is,
however it ends. `require_private_namespace` is the guard that keeps the lab off the host's network.

Must not: change the namespace of a thread that goes on living (setns(2) moves the calling thread only, so
each function runs in a short-lived thread of its own), or touch the host's network.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
"""sched.h: the network namespace, for unshare(2) and setns(2). `os` has both only from Python 3.12 on."""

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab could not do what it was asked: the message says what, and what the tool or kernel answered."""


def _check(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def leave_namespace() -> None:
    """Move the calling thread, and what it starts from here on, to a new network namespace. `OSError` (EPERM) without the right."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")


def _in_thread(function: Callable[[], T], *, what: str, timeout_s: float) -> T:
    """Run `function` in a thread of its own and hand its result or its exception back."""
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as failure:  # handed to the caller below
            failures.append(failure)

    thread = threading.Thread(target=body, name=f"netns-{what}", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise LabError(f"{what}: not done after {timeout_s:g} s")
    if failures:
        raise failures[0]
    return results[0]


class NetNamespace:
    """A network namespace, held by a descriptor. Close it to let it go; processes inside keep it alive."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd

    @classmethod
    def create(cls, name: str) -> NetNamespace:
        """A new, empty namespace. `OSError` (EPERM) where the process has no right to make one."""

        def make() -> int:
            leave_namespace()
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        return cls(name, _in_thread(make, what=name, timeout_s=10.0))

    @classmethod
    def current(cls, name: str = "lab") -> NetNamespace:
        """The namespace of the calling thread."""
        return cls(name, os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    @property
    def path(self) -> str:
        """A path that other processes can open while this process holds the namespace (`nsenter --net=`, `ip ... netns`)."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def call(self, function: Callable[[], T], *, timeout_s: float = 10.0) -> T:
        """Run `function` inside; its result or exception is passed on. Sockets that it opens stay in the namespace."""
        if self.closed:
            raise LabError(f"namespace {self.name} is closed")

        def body() -> T:
            _check(_libc.setns(self._fd, CLONE_NEWNET), f"setns to {self.name}")
            return function()

        return _in_thread(body, what=self.name, timeout_s=timeout_s)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in the namespace; any thread may use it."""
        return self.call(lambda: socket.socket(family, kind, protocol))

    def command(self, *command: str) -> list[str]:
        """The argument vector that runs `command` inside; nsenter(1) becomes the command, so the pid is the command's."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(
        self, *command: str, input_text: str | None = None, timeout_s: float = 10.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end, output as text. `LabError` with its stderr when it fails and `check` is set."""

        def spawn() -> subprocess.CompletedProcess[str]:  # a child inherits the namespace of the thread that forks it
            return subprocess.run(command, input=input_text, capture_output=True, text=True, timeout=timeout_s, check=False)

        try:
            done = self.call(spawn, timeout_s=timeout_s + 5.0)
        except (FileNotFoundError, PermissionError) as error:
            raise LabError(f"cannot run {command[0]} in {self.name}: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{' '.join(command)} in {self.name}: not done after {timeout_s:g} s") from error
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(command)} in {self.name}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done

    def ip_batch(self, lines: Sequence[str]) -> None:
        """Run lines of ip(8) in one process; stops at the first that fails (`LabError` names it)."""
        done = self.run("ip", "-batch", "-", input_text="\n".join(lines) + "\n", check=False)
        if done.returncode != 0:
            number = done.stderr.rpartition("-:")[2].strip()
            line = lines[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(lines) else "?"
            raise LabError(f"ip -batch in {self.name}: {done.stderr.strip()} (line: {line})")

    def sysctl(self, values: Mapping[str, str]) -> None:
        """Write sysctls below `net`, keys as paths: "ipv4/ip_forward". /proc/sys/net shows the opening thread's namespace."""

        def write() -> None:
            for key, value in values.items():
                try:
                    with open(f"/proc/sys/net/{key}", "w", encoding="ascii") as file:
                        file.write(value)
                except OSError as error:
                    raise LabError(f"sysctl net/{key}={value} in {self.name}: {error.strerror}") from error

        self.call(write)

    def close(self) -> None:
        """Let go of the namespace; idempotent. The kernel removes it when no process and no socket is left in it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> NetNamespace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def require_private_namespace() -> None:
    """`LabError` when building a lab here would change the host: pid 1 lives in this namespace, or it has a real NIC.

    The second test is needed because /proc/1/ns is closed to a root without CAP_SYS_PTRACE over pid 1 (containers).
    A namespace from unshare(2) holds `lo` and virtual devices only, and those carry a kind (rtnetlink(7): IFLA_INFO_KIND).
    """
    problem = ""
    with contextlib.suppress(PermissionError):
        if os.path.samestat(os.stat("/proc/1/ns/net"), os.stat("/proc/thread-self/ns/net")):
            problem = "pid 1 is in it"
    if not problem:
        with NetNamespace.current("here") as here:
            links = json.loads(here.run("ip", "-j", "-d", "link", "show").stdout)
        real = [link["ifname"] for link in links if link["link_type"] != "loopback" and "linkinfo" not in link]
        problem = f"it has the NIC {real[0]}" if real else ""
    if problem:
        raise LabError(f"this is not a namespace of the lab's own ({problem}); run in `unshare -n -m` (without root: `unshare -r -n -m`)")
