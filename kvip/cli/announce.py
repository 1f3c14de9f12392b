"""`kvip announce`: the VIPs that the daemon on this host holds are announced anew, in a burst.

Input: arguments. Output: one line on stdout, or JSON; on a terminal's stderr how far it is. Exit code 0 = every round left, 1 = one did
not, or nobody could be asked, 2 = an argument cannot be used. It must not send anything itself: the daemon does, with its permits.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import msgspec

from kvip.cli import daemon_view, sources
from kvip.cli.progress import Progress
from kvip.core.schedule import BURST_OFFSETS_S, ROUND_GAP_S
from kvip.errors import ConfigError, KvipError
from kvip.observe.bursts import MOST_ROUNDS, BurstOrder, BurstView, checked
from kvip.settings import split_list

POLL_S = 0.2
STALLED_S = 10.0
"""Rounds are 1.1 s apart: when none left for so long, none will soon."""
_ROUNDS = len(BURST_OFFSETS_S)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code (argparse exits by itself with 2 for an unknown flag)."""
    options = _parser().parse_args(list(argv))
    try:
        order = BurstOrder(rounds=options.burst, vips=split_list(options.vip or ""))
        if options.vip is not None and not order.vips:
            raise ConfigError("vip", "names no address; leave it out for all VIPs that this node holds")
        _check(order)
        began_s = time.monotonic()
        view = _burst(options.socket or daemon_view.default_socket(), order)
    except KvipError as error:
        return sources.fail(error)
    except KeyboardInterrupt:
        print("kvip: not waited for; the daemon sends what was asked for", file=sys.stderr)
        return 1
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(view)).decode())
    else:
        for refusal in view.refused:
            print(f"kvip: {refusal.vip}: not announced: {refusal.reason}", file=sys.stderr)
        print(_summary(view, took_s=time.monotonic() - began_s))
    return 1 if view.refused or view.ended else 0


def _check(order: BurstOrder) -> None:
    try:
        checked(order)
    except ValueError as error:
        name, _, problem = str(error).partition(": ")
        raise ConfigError(name, problem, source=f"flag --{name}") from error


def _burst(path: str, order: BurstOrder) -> BurstView:
    """Have it sent, and wait until it has been."""
    view = daemon_view.begin_burst(path, order)
    moved_s = time.monotonic()
    with Progress("announcing", "rounds") as progress:
        while not view.done:
            progress.at(view.sent, view.asked)
            time.sleep(POLL_S)
            before, view = view, daemon_view.burst(path, view.id)
            if view.sent + view.ended > before.sent + before.ended:
                moved_s = time.monotonic()
            elif time.monotonic() - moved_s > STALLED_S:
                raise KvipError(
                    f"no round left for {STALLED_S:g} s, {view.sent} of {view.asked} did before: is the NIC up? "
                    "The daemon's log says what it waits for; it sends the rest when it can"
                )
    return view


def _summary(view: BurstView, *, took_s: float) -> str:
    if not view.vips:
        return (
            f"{view.node} announces none of these VIPs: nothing was sent" if view.refused else f"{view.node} holds no VIP: nothing was sent"
        )
    text = f"{view.node} announced {view.vips} VIP(s) anew: {view.sent} of {view.asked} rounds left in {took_s:.1f} s"
    return text + (f"; {view.ended} did not, their VIPs were let go of or began anew meanwhile" if view.ended else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvip announce",
        description="Announce anew, in a burst of gratuitous ARP or neighbour advertisements, the VIPs that the daemon on this host holds "
        "now: for a switch or router that still sends packets elsewhere. The daemon sends, and only what it has a permit for.",
        epilog="Exit code 0: every round left. 1: one did not, a VIP is not this node's, or no daemon answers. 2: bad usage. "
        "Example: kvip announce --vip 192.0.2.10.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--burst",
        metavar="ROUNDS",
        nargs="?",
        type=int,
        const=_ROUNDS,
        default=_ROUNDS,
        help=f"rounds, {ROUND_GAP_S:g} s apart, at most {MOST_ROUNDS} (default: %(default)s)",
    )
    parser.add_argument("--vip", metavar="LIST", help="only these VIPs, comma-separated (default: all that this node holds)")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/announce.md)")
    parser.add_argument("--socket", metavar="PATH", help=f"the daemon's socket (default: {daemon_view.default_socket()})")
    return parser
