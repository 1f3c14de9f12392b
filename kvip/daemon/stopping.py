"""SIGTERM and SIGINT: asks the event loop to stop, and ends the process when it does not.

Input: the signals, taken by a thread of its own, so that a loop that is stuck cannot miss them. Output: a call in the
loop; and after `EXIT_DEADLINE_S` the end of the process, whatever hangs. The switch has silenced the VIPs by then or soon does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_DEADLINE_S = 2.7
_SIGNALS = {signal.SIGTERM, signal.SIGINT}


@contextmanager
def stop_signals(on_stop: Callable[[], None]) -> Iterator[None]:
    """`on_stop` runs in the running event loop at the first signal. Call from the main thread, before other threads start."""
    loop = asyncio.get_running_loop()
    finished = threading.Event()

    def wait() -> None:
        # Blocked signals stay pending until a thread takes them (signal(7)). Not sigtimedwait: CPython's returns as if a signal
        # had come when the process was stopped and continued past the timeout (signalmodule.c, the EINTR path).
        signal.sigwait(_SIGNALS)
        if finished.is_set():
            return
        loop.call_soon_threadsafe(on_stop)
        if not finished.wait(EXIT_DEADLINE_S):
            sys.stderr.write(f"kvip: not stopped {EXIT_DEADLINE_S} s after the signal; ending the process\n")
            sys.stderr.flush()
            os._exit(1)

    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    thread = threading.Thread(target=wait, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        if thread.is_alive() and thread.ident is not None:
            signal.pthread_kill(thread.ident, signal.SIGTERM)
        thread.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
