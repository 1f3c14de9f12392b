"""The process ends on SIGTERM, whatever hangs: judged on real processes."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import asyncio, sys, time
from kvip.daemon import stopping
stopping.EXIT_DEADLINE_S = 0.3

async def main():
    stop = asyncio.Event()
    with stopping.stop_signals(stop.set):
        print("up", flush=True)
        {body}
    print("clean", flush=True)

asyncio.run(main())
"""


def run(body):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err, time.monotonic() - began


def test_a_loop_that_turns_is_asked_to_stop():
    code, out, err, _ = run("await stop.wait()")
    assert (code, out, err) == (0, "clean\n", "")


@pytest.mark.parametrize("body", ["time.sleep(60)", "await asyncio.sleep(60)"])
def test_a_process_that_hangs_is_ended(body):
    code, out, err, took_s = run(body)
    assert code == 1
    assert out == ""
    assert "ending the process" in err
    assert took_s < 5


def test_being_stopped_and_continued_is_no_signal_to_end():
    body = "await stop.wait()"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.4)
    process.send_signal(signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.4)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10) == ("clean\n", "")
