"""`python -m lab.faulttable`: inflicts every fault of `lab.faults` and prints what it did as a Markdown table.

In: the name of an API server, election modes, words that rows must contain. Out: the table on stdout, progress on stderr; exit code 1
when a bound was missed. Rows that need an API server that fails on request run on the embedded one. Must not: measure the incumbent; its
figures are quoted.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvip import __version__
from kvip.errors import KvipError
from lab.apihost import ApiHost
from lab.cluster import CLAIMS, GLOBAL, PER_SERVICE, Cluster
from lab.embeddedapi import EmbeddedApi
from lab.faults import TABLE
from lab.lan import API_IP, Lan
from lab.netns import LabError
from lab.realapi import RealApi, assets_version
from lab.scene import VIPS, Fault, Measured, recover, run

QUOTED = "kube-vip of August 2026 (v1.2.3-24-gbee5cfe, 2026-08-21), mode global, lease 5/3/1, two nodes, real API server"
INCUMBENT = {
    "SIGKILL of the holder, later restarted": "two answers 22 of 30 s, and on after the restart",
    "SIGSTOP of the holder, later SIGCONT": "two answers 22.5 of 30 s, 3.0 s after it wakes",
    "holder cut off from the API": "two answers 0.4-1.4 s",
    "Service deleted while every daemon is dead": "answered for ever",
    "ip addr del of a VIP": "back after 1.8 s",
}
MODES = (CLAIMS, GLOBAL, PER_SERVICE)
HEAD = ("fault", "mode", "two answers (s)", "longest silence (s)", "bound (s)", "left behind", "also timed (s)", "incumbent")


@contextmanager
def _cluster(lan: Lan, api: ApiHost, directory: str) -> Iterator[Cluster]:
    api.start()
    cluster = Cluster(lan, api, work_dir=Path(directory), nodes=("n1", "n2"))
    try:
        cluster.register_nodes()
        yield cluster
    finally:
        cluster.stop()
        api.stop()


def _missed(fault: Fault, measured: Measured) -> bool:
    late = fault.silence_s is not None and measured.longest_silence_s > fault.silence_s
    return late or measured.two_answers_s > 0 or bool(measured.left) or any(timing.took_s > timing.bound_s for timing in measured.timings)


def _line(fault: Fault, mode: str, measured: Measured) -> tuple[str, ...]:
    silent = "-" if fault.silence_s is None else f"{measured.longest_silence_s:.2f}"
    bound = "-" if fault.silence_s is None else f"{fault.silence_s:g}"
    timed = "; ".join(f"{timing.what} {timing.took_s:.2f} (<= {timing.bound_s:g})" for timing in measured.timings)
    left = ", ".join(measured.left) or "nothing"
    two, quoted = f"{measured.two_answers_s:.2f}", INCUMBENT.get(fault.name, "")
    return (fault.name + (" *" if fault.embedded else ""), mode, two, silent, bound, left, timed, quoted)


def _rows(cluster: Cluster, faults: Sequence[Fault], modes: Sequence[str]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """One line per fault and mode, and whether it kept its bounds."""
    for mode in modes:
        cluster.use(mode)
        for fault in faults:
            print(f"{mode}: {fault.name}", file=sys.stderr, flush=True)
            try:
                cluster.start()
                measured = run(fault, cluster)
            except (KvipError, LabError) as error:
                yield (fault.name, mode, "-", "-", "-", "-", f"did not end: {error}", INCUMBENT.get(fault.name, "")), False
                recover(cluster)
            else:
                yield _line(fault, mode, measured), not _missed(fault, measured)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a bound was missed."""
    parser = argparse.ArgumentParser(prog="python -m lab.faulttable", description="Inflict every fault and print what it did.")
    parser.add_argument("--api", choices=("real", "embedded"), default="real")
    parser.add_argument("--mode", action="append", choices=MODES, help="default: all")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args(argv)
    chosen = [fault for fault in TABLE if options.only in fault.name]
    modes = options.mode or MODES
    servers: list[tuple[ApiHost, list[Fault]]] = [(EmbeddedApi(API_IP), [fault for fault in chosen if fault.embedded])]
    others = [fault for fault in chosen if not fault.embedded]
    if options.api == "real":
        servers.insert(0, (RealApi(API_IP), others))
    else:
        servers[0] = (servers[0][0], chosen)
    server = f"etcd + kube-apiserver {assets_version()}" if options.api == "real" else "embedded API server"
    print(
        f"kvip {__version__}, {server} (* = embedded API server), two nodes and a client, lease 5/3/1, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, Linux {platform.release()}.\n"
        f"Each row is the worst of {', '.join(VIPS)}: every 20 ms the client asks for those of IPv4 by ARP requests, for that of IPv6 by\n"
        f"neighbour solicitations to its solicited-node group.\nIncumbent, quoted: {QUOTED}.\n"
    )
    print(f"| {' | '.join(HEAD)} |\n|{'--|' * len(HEAD)}")
    kept = True
    for api, faults in servers:
        if not faults:
            api.stop()
            continue
        with Lan(2) as lan, tempfile.TemporaryDirectory(prefix="kvip-faults-") as directory, _cluster(lan, api, directory) as cluster:
            for line, good in _rows(cluster, faults, modes):
                print(f"| {'' if good else '**missed** '}{' | '.join(line)} |", flush=True)
                kept = kept and good
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
