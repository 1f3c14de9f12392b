"""`kvip status`: who holds which VIP, a line each; from the daemon on this host, or for the whole cluster from the API server.

Input: arguments. Output: text or JSON on stdout; exit code 1 = nobody could be asked, 2 = an argument cannot be used. It must not change
anything.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

import msgspec

from kvip.cli import sources
from kvip.cli.status_text import changed_lines, status_lines
from kvip.errors import ConfigError, KvipError
from kvip.observe.cluster import ClusterView
from kvip.observe.state import StateView

_HOME_AND_CLEAR = "\x1b[H\x1b[J"


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code (argparse exits by itself with 2 for an unknown flag)."""
    options = _parser().parse_args(list(argv))
    try:
        if not options.watch:
            print(_once(sources.state(options), as_json=options.json))
            return 0
        if not 0.2 <= options.interval <= 3600:
            raise ConfigError("interval", "0.2 to 3600 seconds")
        _watch(options)
    except KvipError as error:
        return sources.fail(error)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read (head, grep -m) has enough; nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _once(view: StateView | ClusterView, *, as_json: bool) -> str:
    if as_json:
        return msgspec.json.format(msgspec.json.encode(view)).decode()
    return "\n".join(status_lines(view, colour=_colour()))


def _watch(options: argparse.Namespace) -> None:
    """Until interrupted. A daemon that is started again meanwhile is waited for; one that never answered is an error."""
    redraw = sys.stdout.isatty() and not options.json
    before: StateView | ClusterView | None = None
    told = ""
    while True:
        try:
            view = sources.state(options)
        except KvipError as error:
            if before is None or isinstance(error, ConfigError):
                raise
            if str(error) != told:
                told = str(error)
                print(f"kvip: {told}; trying on", file=sys.stderr, flush=True)
        else:
            told = ""
            if redraw:
                print(_HOME_AND_CLEAR + _once(view, as_json=False), flush=True)
            elif options.json:
                print(msgspec.json.encode(view).decode(), flush=True)
            else:
                for line in changed_lines(before, view):
                    print(line, flush=True)
            before = view
        time.sleep(options.interval)


def _colour() -> bool:
    # https://no-color.org
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvip status",
        description="Show the VIPs: the daemon's on this host with what its kernel confirmed, or the whole cluster's by its Leases and "
        "Services.",
        epilog="Exit code 0: shown. 1: nobody could be asked. 2: bad usage. Example: kubectl exec -n kube-system ds/kvip -- kvip status.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON (docs/status.md); with --watch one document a line")
    parser.add_argument("--watch", action="store_true", help="go on: redraw on a terminal, else print the lines that changed")
    parser.add_argument("--interval", metavar="SECONDS", type=float, default=1.0, help="with --watch: between two looks (default: 1)")
    sources.add_arguments(parser)
    return parser
