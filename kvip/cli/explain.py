"""`kvip explain NAMESPACE/SERVICE`: why a Service has its VIPs, or has not; the last line names the cause.

Input: arguments. Output: text or JSON on stdout; exit code 0 = it works, 1 = it does not, or nobody could be asked, 2 = an argument cannot
be used. It must not change anything.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import msgspec

from kvip.cli import sources
from kvip.cli.explain_text import explanation_lines
from kvip.core.model import ServiceKey
from kvip.errors import ConfigError, KvipError


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code (argparse exits by itself with 2 for an unknown flag)."""
    options = _parser().parse_args(list(argv))
    try:
        told = sources.explanation(options, _key(options.service))
    except KvipError as error:
        return sources.fail(error)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(told)).decode())
    else:
        # https://no-color.org
        print("\n".join(explanation_lines(told, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))))
    return 0 if told.works else 1


def _key(text: str) -> ServiceKey:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ConfigError("service", f"NAMESPACE/SERVICE is expected, such as default/web, got {text[:80]!r}")
    return ServiceKey(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvip explain",
        description="Show the decisions about a Service's VIPs with the facts behind each: is it ours, which addresses, which nodes, who "
        "holds them, are they bound, announced, in its status; then what to do, and the cause.",
        epilog="Exit code 0: it works. 1: it does not, or nobody could be asked. 2: bad usage. Example: kvip explain default/web.",
        allow_abbrev=False,
    )
    parser.add_argument("service", metavar="NAMESPACE/SERVICE", help="the Service, such as default/web")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/status.md)")
    sources.add_arguments(parser)
    return parser
