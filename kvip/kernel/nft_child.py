"""One `nft` child per document: the only use kvip makes of nft(8), for tables, chains and rules.

In: a document. Out: the kernel has all of it, or a `SwitchError` says what nft(8) answered. Nothing else is run, and never
without a deadline. The caller of `load` waits with everything; `load_json` leaves the event loop free.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import BinaryIO, Final

from kvip.core import ruleset
from kvip.core.model import Vip
from kvip.core.ruleset import SILENT, Place
from kvip.errors import SwitchError

DEADLINE_S: Final = 5.0
JSON_DEADLINE_S: Final = 15.0
"""10,000 VIPs with two ports each take 1.5 s on an idle machine."""
_SEARCH: Final = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
_NEEDS: Final = {
    "arp": "ARP rules (CONFIG_NF_TABLES_ARP)",
    "inet": "inet rules (CONFIG_NF_TABLES_INET)",
    "netdev": "egress rules (CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_EGRESS, Linux 5.16)",
}


def load(document: str, *, on_started: Callable[[int], None] = lambda pid: None, check_only: bool = False) -> None:
    """Have the kernel take a document as one transaction; `check_only`: say whether it would.

    `on_started` gets the child's pid, which is also the netlink port of its first socket (libmnl's autobind).
    Raises SwitchError; after a deadline of 5 s the child is killed, and then its transaction may have been done.
    """
    program = _program("run with --switch=false")
    command = [program, *(["--check"] if check_only else []), "-f", "-"]
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment(), text=True
        )
    except OSError as error:
        raise SwitchError(f"{program} cannot be run: {error.strerror}") from error
    with child:
        on_started(child.pid)
        try:
            _, complaint = child.communicate(document, timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            raise SwitchError(f"nft did not end within {DEADLINE_S:g} s; the rules are in doubt") from None
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise SwitchError(f"nft refused the rules: {_first_line(complaint)}")


async def load_json(document: bytes, *, on_started: Callable[[int], None] = lambda pid: None, check_only: bool = False) -> None:
    """As `load`, for a document in libnftables-json(5), without holding the event loop; the deadline is 15 s.

    Cancelled, it kills the child and waits for its end: afterwards nothing of it comes to the kernel any more.
    """
    program = _program("run with --service-security=false")
    command = [program, "-j", *(["--check"] if check_only else []), "-f", "-"]
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        with _as_file(document) as stdin:
            child = await asyncio.create_subprocess_exec(*command, stdin=stdin, stdout=nowhere, stderr=pipe, env=_environment())
    except OSError as error:
        raise SwitchError(f"{program} cannot be run: {error.strerror}") from error
    try:
        on_started(child.pid)
        async with asyncio.timeout(JSON_DEADLINE_S):
            _, complaint = await child.communicate()
    except TimeoutError:
        raise SwitchError(f"nft did not end within {JSON_DEADLINE_S:g} s; the rules are in doubt") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        raise SwitchError(f"nft refused the rules: {_first_line(complaint.decode(errors='replace'))}")


def _program(otherwise: str) -> str:
    program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{_SEARCH}")
    if program is None:
        raise SwitchError(f"the program nft is missing; install nftables 1.0.2 or later, or {otherwise}")
    return program


def _as_file(document: bytes) -> BinaryIO:
    """nft opens "-" as /dev/stdin, and a socket, which an event loop gives for a pipe, cannot be opened (ENXIO)."""
    file = os.fdopen(os.memfd_create("kvip-rules", os.MFD_CLOEXEC), "w+b")
    file.write(document)
    file.seek(0)
    return file


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def require_support() -> None:
    """Raises SwitchError that names what is missing on this machine: nft, a right, or a part of the kernel. Changes nothing."""
    places = {Vip("192.0.2.1"): Place(SILENT), Vip("2001:db8::1"): Place(SILENT)}
    whole = ruleset.document(nics=("lo",), groups=("main",), places=places, hooked=("lo",))
    try:
        load(whole, check_only=True)
    except SwitchError as error:
        if "Operation not permitted" in str(error):
            raise SwitchError("nf_tables needs CAP_NET_ADMIN in this network namespace; grant it to this process") from error
        for family, need in _NEEDS.items():
            try:
                load(_smallest(family), check_only=True)
            except SwitchError as problem:
                if "is missing" in str(problem):
                    raise
                raise SwitchError(f"the kernel has no nf_tables {need}: {problem}") from error
        raise


def _smallest(family: str) -> str:
    hook = 'egress device "lo"' if family == "netdev" else "input"
    return f"table {family} kvip_check {{ chain all {{ type filter hook {hook} priority 0; }} }}\n"


def _first_line(complaint: str) -> str:
    return next((line.strip() for line in complaint.splitlines() if line.strip()), "no reason given")
