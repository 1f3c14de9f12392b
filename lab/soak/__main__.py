"""`python -m lab.soak`: random operations and faults on three nodes, judged on the wire. Exit code 1 on a violation.

Started anywhere, it re-executes itself in a network namespace of its own. Logs of a run with violations are kept and named.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from typing import NoReturn

from lab import preflight
from lab.netns import LabError, require_private_namespace
from lab.soak.model import FAULT_KINDS
from lab.soak.report import markdown, text
from lab.soak.soak import Settings, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length, healing and convergence included (about)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same operations at the same times")
    parser.add_argument("--api", choices=("embedded", "real"), default="embedded")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting for the daemons; empty removes one; the election is KVIP_ELECTION, claims unless given",
    )
    parser.add_argument("--faults", default="", metavar="LIST", help=f"only these, comma-separated: {', '.join(FAULT_KINDS)}")
    parser.add_argument("--first", action="store_true", help="end at the first violation")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="also write the result there, as Markdown")
    parser.add_argument("--here", action="store_true", help="in the current network namespace (the host's is refused)")
    return parser.parse_args()


def _reexecute() -> NoReturn:
    """Become this program in a network namespace of its own, or say what is missing (exit 1)."""
    found = preflight.namespaces()
    if found.command is None:
        sys.exit(found.reason)
    root = str(pathlib.Path(__file__).resolve().parent.parent.parent)
    os.environ["PATH"] = preflight.search_path()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    os.execvp(found.command[0], [*found.command, sys.executable, "-m", "lab.soak", "--here", *sys.argv[1:]])


def main() -> int:
    """Get a namespace, run, report, clean up."""
    arguments = _arguments()
    if not arguments.here:
        _reexecute()
    try:
        require_private_namespace()
    except LabError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, so that nothing is left
    wanted = [kind for kind in arguments.faults.split(",") if kind]
    if unknown := set(wanted) - set(FAULT_KINDS):
        sys.exit(f"--faults: no such fault: {', '.join(sorted(unknown))}")
    work = pathlib.Path(tempfile.mkdtemp(prefix="kvip-soak-"))
    tempfile.tempdir = str(work)  # the API server's directory too
    settings = Settings(
        seed=arguments.seed,
        seconds=arguments.seconds,
        api=arguments.api,
        env=dict(pair.partition("=")[::2] for pair in arguments.env),
        kinds=tuple(kind for kind in FAULT_KINDS if kind in wanted),
        stop_at_first=arguments.first,
        work_dir=work,
    )
    code = 130  # what a shell reports for SIGINT
    try:
        result = run(settings)
        print(text(result), flush=True)
        code = 1 if result.violations else 0
        if arguments.report:
            arguments.report.write_text(markdown(result))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        if code == 1:
            print(f"the daemons' state and logs are kept in {work}", flush=True)
        else:
            shutil.rmtree(work, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
