"""`kvip doctor`: is this host, and the cluster, as kvip needs them? What is not, why that matters, and the command that mends it.

Input: the settings of the daemon, this machine, the API server where there is one. Output: text or JSON; exit code 0 = nothing that
matters, 1 = a problem, 2 = a setting cannot be used. It must not change anything.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kvip import config
from kvip.cli.host_survey import gather
from kvip.core.doctor.facts import Facts
from kvip.core.doctor.finding import Finding
from kvip.core.doctor.judge import judge, seen
from kvip.errors import ConfigError

WIDTH = 110
_NOTHING = "nothing found that matters"


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code (argparse exits by itself with 2 for a flag of its own that cannot be used)."""
    parser = _parser()
    if {"-h", "--help"} & set(argv):
        config.add_arguments(parser)
        parser.print_help()
        return 0
    options, rest = parser.parse_known_args(list(argv))
    root = Path(options.host_root)
    try:
        if not (root / "proc").is_dir():
            raise ConfigError("host-root", f"{str(root)!r} has no folder proc: it is no root of a host")
        settings = config.load(rest, os.environ).settings
    except ConfigError as error:
        print(f"kvip: {error}", file=sys.stderr)
        return 2
    facts = gather(settings, root=root)
    findings = judge(facts)
    print(as_json(facts, findings) if options.json else as_text(facts, findings))
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def as_text(facts: Facts, findings: Sequence[Finding]) -> str:
    """What was seen, what was not, and the findings, for people."""
    lines = ["looked at"]
    rows = seen(facts)
    width = max(len(subject) for subject, _ in rows)
    lines += [_wrapped(f"  {subject:{width}}  ", text) for subject, text in rows]
    if facts.unseen:
        lines += ["", "not looked at"]
        lines += [_wrapped(f"  {unseen.what}: ", unseen.why, indent=4) for unseen in facts.unseen]
    for finding in findings:
        lines += ["", _wrapped(f"{finding.level.upper()}  {finding.check}: ", finding.what, indent=2)]
        lines += [_wrapped("  why   ", finding.why), f"  mend  {_printable(finding.mend)}"]
    problems = sum(finding.level == "problem" for finding in findings)
    notes = len(findings) - problems
    nothing = f"{_NOTHING}, in what was looked at" if facts.unseen else _NOTHING
    lines += ["", f"{problems} problem(s), {notes} note(s)" if findings else nothing]
    return "\n".join(lines)


def as_json(facts: Facts, findings: Sequence[Finding]) -> str:
    """The same for programs."""
    document = {
        "problems": sum(finding.level == "problem" for finding in findings),
        "findings": findings,
        "seen": [{"subject": subject, "state": state} for subject, state in seen(facts)],
        "unseen": facts.unseen,
    }
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def _wrapped(head: str, text: str, *, indent: int | None = None) -> str:
    after = " " * (len(head) if indent is None else indent)
    return textwrap.fill(_printable(head + text), width=WIDTH, subsequent_indent=after, break_long_words=False, break_on_hyphens=False)


def _printable(text: str) -> str:
    """Names of Services, NICs and Pods are other people's bytes: nothing of them may steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvip doctor",
        usage="kvip doctor [-h] [--json] [--host-root DIR] [--config FILE] [SETTING ...]",
        description="Say whether this host and the cluster are as kvip needs them, with the settings that the daemon would run with. "
        "Nothing is changed. Without an API server it says what it could not look at.",
        epilog="Exit code 0: nothing that matters. 1: a problem. 2: bad usage. "
        "Example: kubectl exec -n kube-system ds/kvip -- kvip doctor.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this and exit")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--host-root", metavar="DIR", default="/", help="where the root of the host is mounted, in a container (default: %(default)s)"
    )
    return parser
