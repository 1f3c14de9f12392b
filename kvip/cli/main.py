"""The `kvip` command: picks the subcommand. Exit codes: 0 done, 1 failed, 2 a setting or argument cannot be used."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

from kvip import __version__


def _manager(argv: Sequence[str]) -> int:
    # As PID 1 a process without a handler does not get SIGTERM at all (pid_namespaces(7)), and the imports take a while.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # Its default action ends the process (signal(7)); the daemon writes its state to the log instead, once it has one.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    from kvip.cli import manager

    return manager.main(argv)


def _sweep(argv: Sequence[str]) -> int:
    from kvip.cli import sweep

    return sweep.main(argv)


def _manifest(argv: Sequence[str]) -> int:
    from kvip.cli import manifest

    return manifest.main(argv)


def _status(argv: Sequence[str]) -> int:
    from kvip.cli import status

    return status.main(argv)


def _explain(argv: Sequence[str]) -> int:
    from kvip.cli import explain

    return explain.main(argv)


def _doctor(argv: Sequence[str]) -> int:
    from kvip.cli import doctor

    return doctor.main(argv)


def _announce(argv: Sequence[str]) -> int:
    from kvip.cli import announce

    return announce.main(argv)


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "manager": (_manager, "run the daemon: hold and announce the VIPs of LoadBalancer Services"),
    "manifest": (_manifest, "print a DaemonSet, a static Pod or the rights for the settings, as YAML"),
    "status": (_status, "show who holds which VIP, on this node or in the whole cluster"),
    "explain": (_explain, "show why a Service has its VIPs, or has not"),
    "doctor": (_doctor, "say what of this host or the cluster is not as kvip needs it, and the command that mends it"),
    "announce": (_announce, "announce once more, in a burst, the VIPs that this node holds"),
    "sweep": (_sweep, "remove what kvip, or another daemon, left on this host"),
}


def usage() -> str:
    """The list of commands, under the name by which this one was called."""
    name = "kubectl kvip" if os.path.basename(sys.argv[0]).startswith("kubectl-") else "kvip"
    lines = [f"  {command:10} {text}" for command, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "kvip announces the virtual IPs (VIPs) of Kubernetes LoadBalancer Services on a layer-2 network.",
            "",
            f"usage: {name} COMMAND [options]",
            f"       {name} --version",
            "",
            "commands:",
            *lines,
            "",
            f"{name} COMMAND --help lists a command's options. To begin with: {name} doctor on a node, then {name} manifest daemonset;",
            f"{name} status and {name} explain NAMESPACE/SERVICE once it runs.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in ("-V", "--version", "version"):
        print(f"kvip {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    command = COMMANDS.get(arguments[0])
    if command is None:
        print(f"kvip: there is no command {arguments[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    return command[0](arguments[1:])
