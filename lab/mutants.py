"""Breaks kvip on purpose, one rule at a time, and shows that the tests notice: `make mutants`.

In: `lab.mutations`, each a change of the source and the tests that must fail with it. Out: a Markdown table, and exit code 1 when a
mutant survives. Each mutant is a copy of the tree in a directory of its own; the tree itself is never changed.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

from lab.mutations import MUTANTS, Mutant

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEADLINE_S = 400.0
SKIPPED = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".hypothesis", "*.egg-info", ".mypy_cache", ".ruff_cache")


def main() -> int:
    """Run every mutant, or those whose rule or name contains a given word; 1 when one survives."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="run the mutants whose rule or description contains this")
    parser.add_argument("--report", default="", help="write the table to this file")
    options = parser.parse_args()
    rows = ["| rule | broken on purpose | tests that ran | noticed by | s |", "|--|--|--|--|--|"]
    survived = 0
    sound: set[tuple[str, ...]] = set()
    for mutant in (each for each in MUTANTS if options.only in f"{each.rule} {each.what}"):
        began = time.monotonic()
        noticed = run(mutant, sound)
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


def run(mutant: Mutant, sound: set[tuple[str, ...]]) -> str:
    """What noticed the mutant: names of failed tests; "" = nothing did. Raises RuntimeError when it cannot be tried at all.

    `sound`: tests that passed without a mutant already; those of this one are added.
    """
    with tempfile.TemporaryDirectory(prefix="kvip-mutant-") as directory:
        tree = pathlib.Path(directory) / "kvip"
        shutil.copytree(ROOT, tree, ignore=SKIPPED)
        source = tree / mutant.file
        text = source.read_text(encoding="utf-8")
        command = ["unshare", "-n", "-m", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *mutant.tests]
        if mutant.tests[0].startswith("tests/unit"):
            command.append("--hypothesis-profile=all")
        if mutant.tests not in sound:
            whole = _pytest(command, tree)
            if whole.returncode:
                raise RuntimeError(f"{mutant.rule}: the tests fail without the mutant already:\n{whole.stdout[-2000:]}")
            sound.add(mutant.tests)
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
