"""`python -m lab.demo`: kvip's main job on a LAN in namespaces, told with measured times.

In: nothing; started anywhere, it re-executes itself in a network namespace of its own (root, or a user namespace). Out: on stdout the
narration of `lab.demosteps`, on a terminal with a picture below it; exit code 0 when every step happened, else 1, with what was seen.

Must not: touch the host's network, or leave processes or files behind (the files of a failed run are kept and named).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

from kvip.errors import KvipError
from lab import preflight
from lab.demosteps import DemoSteps
from lab.embeddedapi import EmbeddedApi
from lab.kubeapi import KubeApi
from lab.lan import API_IP, Lan
from lab.narration import Narration, NotSeen, is_live, now_s
from lab.netns import LabError, require_private_namespace
from lab.node import NodeProcess

LOG_LINES = 12
"""Of each daemon, shown when a step failed."""


@contextlib.contextmanager
def _api_thread(url: str, token: str) -> Iterator[tuple[KubeApi, Callable[[Coroutine[Any, Any, Any]], Future[Any]]]]:
    """A client of the API server and a function that runs its coroutines, one after the other, in a thread."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1, thread_name_prefix="api") as pool:
        api = KubeApi(url, token)
        pool.submit(runner.run, api.__aenter__()).result(5.0)
        try:
            yield api, lambda request: pool.submit(runner.run, request)
        finally:
            pool.submit(runner.run, api.__aexit__(None, None, None)).result(5.0)


def _narration() -> Narration:
    """With a picture on a terminal, plain lines elsewhere."""
    if not is_live(sys.stdout, os.environ):
        return Narration()
    # rich takes longer to import than a line to print.
    from lab.demolive import LiveNarration

    return LiveNarration()


def demo(work: pathlib.Path) -> int:
    """Build the LAN, run the steps; the exit code. Files go to `work`."""
    tell = _narration()
    tell.line("kvip demo: a LAN of network namespaces with nodes n1, n2 and a client, an embedded Kubernetes API server", style="bold")
    tell.line("times: ms since the step began, measured")
    nodes: list[NodeProcess] = []
    try:
        with Lan(2) as lan, EmbeddedApi(API_IP) as server, contextlib.ExitStack() as undo:
            tell.event("LAN up, API server listens")
            env = {"KVIP_ELECTION": "claims"}
            nodes = [NodeProcess(lan, name, kubeconfig=server.kvip_kubeconfig, work_dir=work, env=env) for name in lan.nodes]
            for node in nodes:
                undo.callback(node.close)
            api, ask = undo.enter_context(_api_thread(server.url, server.admin_token))
            steps = undo.enter_context(contextlib.closing(DemoSteps(lan, api, nodes, ask, tell=tell)))
            undo.enter_context(tell.watching(steps.picture))
            steps.run()
    except (NotSeen, KvipError, LabError, AssertionError, OSError, TimeoutError) as failure:
        tell.line(f"\nFAILED  {failure}", style="bold red")
        for node in nodes:
            lines = node.log_path.read_text(errors="replace").splitlines()[-LOG_LINES:] if node.log_path.exists() else []
            tell.line("\n".join([f"\n--- last log lines of {node.node} ({node.log_path})", *lines]))
        return 1
    tell.line(f"\nOK: every step happened ({now_s() - tell.started_s:.1f} s in all)", style="bold green")
    return 0


def _reexecute() -> NoReturn:
    """Become this program in a network namespace of its own, or say what is missing (exit 1)."""
    code, line = preflight.verdict(preflight.look())
    if code:
        sys.exit(line)
    found = preflight.namespaces()
    if found.command is None:
        sys.exit(found.reason)
    root = str(pathlib.Path(__file__).resolve().parent.parent)
    os.environ["PATH"] = preflight.search_path()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    os.execvp(found.command[0], [*found.command, sys.executable, "-m", "lab.demo", "--here"])


def main() -> int:
    """Get a namespace, run, clean up."""
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description="Shows kvip's main job on a LAN of network namespaces.")
    parser.add_argument("--here", action="store_true", help="in the current network namespace (the host's is refused)")
    if not parser.parse_args().here:
        _reexecute()
    try:
        require_private_namespace()
    except LabError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, so that no daemon is left
    work = pathlib.Path(tempfile.mkdtemp(prefix="kvip-demo-"))
    tempfile.tempdir = str(work)  # the API server's directory too
    code = 130  # what a shell reports for SIGINT
    try:
        code = demo(work)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        if code == 1:
            print(f"\nthe daemons' state and logs are kept in {work}", flush=True)
        else:
            shutil.rmtree(work, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
