"""`python -m lab.apiserver`: the embedded API server as a process.

Inputs: flags. Outputs: a listening server until SIGTERM or SIGINT; the objects in `--state-file`, so that a restart finds them again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

import msgspec

from lab.apiserver.server import ApiServer
from lab.apiserver.store import State


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.apiserver", description="Embedded Kubernetes API server (plain HTTP).")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=6443, help="port to listen on, 0 = a free one")
    parser.add_argument("--wait-file", type=Path, help="written with the URL once the server listens: what its starter waits for")
    parser.add_argument("--state-file", type=Path, help="objects are read from here at the start and written at the end")
    parser.add_argument("--bookmark-period", type=float, default=60.0, metavar="SECONDS", help="pause between bookmarks of a watch")
    parser.add_argument("--history-limit", type=int, default=10_000, metavar="CHANGES", help="how many changes a watch can go back")
    return parser.parse_args()


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


async def _run(arguments: argparse.Namespace, state: State | None) -> State:
    """Serve until told to end; returns the objects that are left."""
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, ended.set)
    server = ApiServer(
        arguments.host,
        arguments.port,
        bookmark_period_s=arguments.bookmark_period,
        history_limit=arguments.history_limit,
        state=state,
    )
    async with server:
        if arguments.wait_file:
            _replace(arguments.wait_file, server.url.encode() + b"\n")
        print(f"serving on {server.url}", flush=True)
        await ended.wait()
    return server.store.state()


def main() -> None:
    """Read the state, serve, write the state."""
    arguments = _arguments()
    saved: Path | None = arguments.state_file
    state = msgspec.json.decode(saved.read_bytes(), type=State) if saved and saved.exists() else None
    state = asyncio.run(_run(arguments, state))
    if saved:
        _replace(saved, msgspec.json.encode(state))


if __name__ == "__main__":
    main()
