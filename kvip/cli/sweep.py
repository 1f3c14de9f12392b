"""`kvip sweep`: removes what kvip left on this host, and what another daemon left where it is named. No daemon, no API needed.

Input: arguments, this network namespace. Output: a table or JSON; exit code 0 = nothing is left that should go, 1 = something
could not be removed or seen, 2 = a word that cannot be used. It must not touch anything beside a running daemon, except to adopt.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kvip.cli import served
from kvip.cli.known_vips import Owners, from_journal
from kvip.cli.progress import Progress
from kvip.cli.rows import Row, as_json, as_table
from kvip.cli.sweeper import Request, Sweeper
from kvip.core.sweeping import Also, parse_also, parse_vips
from kvip.daemon.supervision import LOCK_NAME
from kvip.errors import ConfigError, KvipError
from kvip.kernel.batches import AddressSocket
from kvip.kernel.host import read_host
from kvip.options import OPTIONS

_DEFAULTS = {option.field: str(option.default) for option in OPTIONS}
_RUNNING = (
    "kvip: a kvip daemon runs in this network namespace, and holds what a sweep would remove; nothing was touched.\n"
    "Stop it first (the pod on this node, or the process: `ss -xap | grep @kvip` names it) and sweep then.\n"
    "To look only: --dry-run. To hand it addresses of a killed daemon: --adopt."
)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code (argparse exits by itself with 2 for an unknown flag)."""
    parser = _parser()
    options = parser.parse_args(list(argv))
    try:
        also = parse_also(options.also or "")
        _check_adoption(options)
        if options.also is not None and also == Also():
            raise ValueError("--also: names nothing")
    except ValueError as error:
        print(f"kvip: {error}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("kvip: sweep needs root (CAP_NET_ADMIN) to see and change addresses and firewall rules; try sudo", file=sys.stderr)
        return 1
    try:
        with _sole() as alone:
            if not (alone or options.dry_run or options.adopt):
                print(_RUNNING, file=sys.stderr)
                return 1
            return _sweep(options, also)
    except ConfigError as error:
        print(f"kvip: {error}", file=sys.stderr)
        return 2
    except (KvipError, OSError) as error:
        print(f"kvip: {error}", file=sys.stderr)
        return 1


def _sweep(options: argparse.Namespace, also: Also) -> int:
    owners = _owners(options)
    request = Request(
        dry_run=options.dry_run,
        also=also,
        adopt=frozenset(owners) if options.adopt else None,
        lifetime_s=options.lifetime,
        owners=owners,
    )
    with AddressSocket() as addresses:
        host = asyncio.run(read_host(addresses))
        progress = Progress("adopting" if options.adopt else "sweeping", "addresses")
        sweeper = Sweeper(request, host, addresses, on_progress=progress.at)
        try:
            with progress:
                sweeper.run()
        except KvipError:
            _show(sweeper.rows, options)
            raise
    _show(sweeper.rows, options)
    return 0 if all(row.ok for row in sweeper.rows) else 1


def _show(rows: Sequence[Row], options: argparse.Namespace) -> None:
    if options.json:
        print(as_json(rows, dry_run=options.dry_run))
        return
    print(as_table(rows) or ("nothing to adopt" if options.adopt else "nothing of kvip's is left on this host"))
    if options.dry_run:
        print("\ndry run: nothing was changed")


def _owners(options: argparse.Namespace) -> Owners:
    """VIP -> Services. Where they are not needed to decide, a journal that cannot be used is no matter."""
    if options.vips is not None:
        return dict.fromkeys(parse_vips(options.vips), ())
    if options.kubeconfig:
        # The Kubernetes client takes longer to import than a sweep to run.
        from kvip.cli.cluster_vips import from_api

        return asyncio.run(from_api(options.kubeconfig, served.rules_of(options)))
    try:
        return from_journal(options.state_dir)
    except ConfigError as error:
        if options.adopt:
            raise ConfigError("adopt", f"no VIPs known: {error}; name them with --vips, or give --kubeconfig") from error
        return {}


def _check_adoption(options: argparse.Namespace) -> None:
    if not options.adopt and (options.vips is not None or options.kubeconfig):
        raise ValueError("--vips and --kubeconfig say what to adopt: give --adopt as well")
    if options.vips is not None:
        if options.kubeconfig:
            raise ValueError("--vips and --kubeconfig: give one of them")
        if not parse_vips(options.vips):
            raise ValueError("--vips: names no address")
    if not 10 <= options.lifetime <= 86_400:
        raise ValueError("--lifetime: 10 to 86400 seconds")


@contextmanager
def _sole() -> Iterator[bool]:
    """Hold the daemons' lock, so that none begins meanwhile; False when a daemon has it. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as lock:
        try:
            lock.bind(LOCK_NAME)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            yield False
        else:
            yield True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvip sweep",
        description="Remove every address and nf_tables table that kvip left in this network namespace. "
        "Without kvip's mark nothing is touched unless it is named.",
        epilog="Exit code 0: nothing is left that should go. 1: something could not be removed, or not be seen. 2: bad usage. "
        "Example: kvip sweep --dry-run, then kvip sweep.",
        allow_abbrev=False,
    )
    parser.add_argument("--dry-run", action="store_true", help="only list, also what another daemon may have left")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--also",
        metavar="LIST",
        help="comma-separated: addresses without the mark (ADDR, ADDR/PREFIX, ADDR@NIC), kube-vip-iptables (kube-vip's rules), "
        "tables (nft:FAMILY:NAME); --dry-run lists what there is",
    )
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="remove nothing of kvip's: give addresses of a killed daemon that are VIPs of ours kvip's mark and a finite lifetime, "
        "without a gap; a kvip that runs or starts here takes them as its own or sweeps them",
    )
    parser.add_argument("--vips", metavar="LIST", help="with --adopt: the VIPs, comma-separated (default: those of the journal)")
    parser.add_argument("--kubeconfig", metavar="FILE", help="with --adopt: ask the API which VIPs are ours")
    parser.add_argument("--lifetime", metavar="SECONDS", type=int, default=60, help="with --adopt: lifetime of the addresses (default: 60)")
    parser.add_argument("--state-dir", metavar="DIR", default=_DEFAULTS["state_dir"], help="folder of the journal (default: %(default)s)")
    served.add_arguments(parser, when="with --kubeconfig")
    return parser
