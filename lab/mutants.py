"""Breaks kvip on purpose, one rule at a time, and shows that the tests notice: `make mutants`.

In: `MUTANTS`, each a change of the source and the tests that must fail with it. Out: a Markdown table, and exit code 1 when a
mutant survives. Each mutant is a copy of the tree in a directory of its own; the tree itself is never changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEADLINE_S = 400.0
SKIPPED = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".hypothesis", "*.egg-info", ".mypy_cache", ".ruff_cache")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One rule taken away: in `file`, `old` becomes `new`; then `tests` (of one ring) must fail."""

    rule: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    more: tuple[tuple[str, str], ...] = ()
    """Further changes of the same file."""


MUTANTS = (
    Mutant(
        "K1",
        "the dead-man's switch off",
        "kvip/daemon/app.py",
        "if settings.switch else",
        "if not settings.switch else",
        ("tests/scenario/test_fault_table.py", "-k", "SIGKILL or SIGSTOP"),
    ),
    Mutant(
        "K2",
        "the switch without its outbound rules",
        "kvip/core/ruleset.py",
        '_chain("output", "type filter hook output priority -300;", "arp saddr ip vmap @vips4"),',
        "",
        ("tests/netns/test_switch_wire.py", "-k", "k2"),
        more=(
            ('            "arp saddr ip vmap @vips4",\n            "icmpv6 type nd-neighbor-advert @th,64,128 vmap @vips6",', ""),
            ('"oifname @nics ip saddr vmap @vips4",', ""),
            ('"oifname @nics meta nfproto ipv6 @nh,64,128 vmap @vips6",', ""),
            (', f"{_DISCOVERY} @nh,64,128 vmap @vips6"', ""),
        ),
    ),
    Mutant(
        "K2, F1",
        "the switch without its egress hook",
        "kvip/core/ruleset.py",
        '            "arp saddr ip vmap @vips4",\n            "icmpv6 type nd-neighbor-advert @th,64,128 vmap @vips6",',
        "",
        ("tests/netns/test_switch_wire.py", "-k", "f1"),
    ),
    Mutant(
        "K4",
        "a re-arming that came late is not taken back",
        "kvip/kernel/switch.py",
        "if self._clock.now() - began <= SLACK_S:",
        "if True:",
        ("tests/netns/test_switch_arming.py", "-k", "k4"),
    ),
    Mutant(
        "K5",
        "what a former daemon left may answer before it is adopted",
        "kvip/kernel/switch.py",
        "places = {vip: Place(SILENT, nic) for vip, nic in vips.items()}\n        hooked",
        "places = {vip: Place(self._groups[0], nic) for vip, nic in vips.items()}\n        hooked",
        ("tests/netns/test_switch_wire.py", "-k", "k5"),
    ),
    Mutant(
        "K7",
        "rules that someone removed are not put back",
        "kvip/daemon/guard.py",
        "    def _put_back_and_arm(self) -> str:\n",
        '    def _put_back_and_arm(self) -> str:\n        return ""\n',
        ("tests/scenario/test_fault_table.py", "-k", "flush"),
    ),
    Mutant(
        "R1",
        "a renewal that is answered too late counts",
        "kvip/core/election/lease.py",
        "in_time = now < until and (election.valid_until is None or now < election.valid_until)",
        "in_time = True",
        ("tests/unit/test_lease_election.py", "tests/unit/test_lease_loop.py"),
    ),
    Mutant(
        "R2",
        "a fence does not disarm the switch",
        "kvip/daemon/executor.py",
        "self._epoch += 1\n        self._guard.disarm()",
        "self._epoch += 1",
        ("tests/unit/test_executor.py", "-k", "fence"),
    ),
    Mutant(
        "I3",
        "UID tracking reduced to names",
        "kvip/core/ledger.py",
        "if former is not None and former != wish.uid:",
        "if False:",
        ("tests/unit/test_ledger.py",),
    ),
    Mutant(
        "I5",
        "an unknown desire counts as no claim",
        "kvip/core/diff.py",
        "if wanted.known and not wanted.claimed:",
        "if not wanted.claimed:",
        ("tests/unit/test_diff.py",),
    ),
    Mutant(
        "I6",
        "an address without the mark is taken over",
        "kvip/daemon/executor.py",
        'self._binding.bind("add", [(a.vip, a.link) for a in allowed])',
        'self._binding.bind("replace", [(a.vip, a.link) for a in allowed])',
        ("tests/unit/test_executor.py", "-k", "unmarked"),
    ),
)


def main() -> int:
    """Run every mutant, or those whose rule or name contains a given word; 1 when one survives."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="run the mutants whose rule or description contains this")
    parser.add_argument("--report", default="", help="write the table to this file")
    options = parser.parse_args()
    rows = ["| rule | broken on purpose | tests that ran | noticed by | s |", "|--|--|--|--|--|"]
    survived = 0
    for mutant in (each for each in MUTANTS if options.only.lower() in f"{each.rule} {each.what}".lower()):
        began = time.monotonic()
        noticed = run(mutant)
        survived += not noticed
        tests = " ".join(mutant.tests)
        rows.append(f"| {mutant.rule} | {mutant.what} | `{tests}` | {noticed or '**nothing**'} | {time.monotonic() - began:.0f} |")
        print(rows[-1], flush=True)
    table = "\n".join(rows) + "\n"
    if options.report:
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        where = f"Linux {platform.release()}, Python {platform.python_version()}, {moment}"
        pathlib.Path(options.report).write_text(f"# Broken on purpose\n\nBy `make mutants` ({where}).\n\n{table}", encoding="utf-8")
    print(f"{survived} survived" if survived else "every one was noticed")
    return 1 if survived else 0


def run(mutant: Mutant) -> str:
    """What noticed the mutant: names of failed tests; "" = nothing did. Raises RuntimeError when it cannot be tried at all."""
    with tempfile.TemporaryDirectory(prefix="kvip-mutant-") as directory:
        tree = pathlib.Path(directory) / "kvip"
        shutil.copytree(ROOT, tree, ignore=SKIPPED)
        source = tree / mutant.file
        text = source.read_text(encoding="utf-8")
        command = ["unshare", "-n", "-m", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *mutant.tests]
        sound = _pytest(command, tree)
        if sound.returncode:
            raise RuntimeError(f"{mutant.rule}: the tests fail without the mutant already:\n{sound.stdout[-2000:]}")
        for old, new in ((mutant.old, mutant.new), *mutant.more):
            if text.count(old) != 1:
                raise RuntimeError(f"{mutant.rule}: {mutant.file} does not hold exactly once: {old!r}; mend lab/mutants.py")
            text = text.replace(old, new)
        source.write_text(text, encoding="utf-8")
        broken = _pytest(command, tree)
        if broken.returncode not in (0, 1):
            raise RuntimeError(f"{mutant.rule}: pytest ended with {broken.returncode}:\n{broken.stdout[-2000:]}")
        failed = re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)", broken.stdout, re.MULTILINE)
        return f"{len(failed)} tests, as `{failed[0]}`" if failed else ""


def _pytest(command: list[str], tree: pathlib.Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(tree), "HOME": str(pathlib.Path.home())}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


if __name__ == "__main__":
    sys.exit(main())
