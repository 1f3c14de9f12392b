"""`make demo`: on a terminal with a picture below the narration, in a pipe as plain lines; every step happens in both."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from lab.node import REPOSITORY

COMMAND = (sys.executable, "-m", "lab.demo")
LAST = "OK: every step happened"


def environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    return {**kept, "TERM": "xterm", **more}


def read_to_the_end(fd: int) -> str:
    """What a terminal was sent. Linux answers EIO when nobody has its other side open any more."""
    found = b""
    while True:
        try:
            part = os.read(fd, 65_536)
        except OSError:
            return found.decode()
        if not part:
            return found.decode()
        found += part


def test_on_a_terminal_there_is_a_picture_below_the_narration() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 130, 0, 0))
    with subprocess.Popen(COMMAND, stdin=slave, stdout=slave, stderr=slave, env=environment(), cwd=REPOSITORY) as demo:
        os.close(slave)
        text = read_to_the_end(master)
    os.close(master)
    assert demo.returncode == 0, text[-3000:]
    assert LAST in text
    assert text.rindex("\x1b[?25h") > text.index("\x1b[?25l"), "the cursor was hidden, and is back"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    for number in range(1, 7):
        assert re.search(rf"^{number}\. ", plain, re.MULTILINE), f"step {number} is not told"
    assert re.search(r"who answers +n[12] \(02:00:00:00:00:0[12]\)", plain)
    assert re.search(r"who answers +nobody, for [0-9.]+ s", plain)
    assert re.search(r"client's neighbour table +n[12] \(02:00:00:00:00:0[12]\)", plain)
    assert re.search(r"dead \(exit -9\) +10\.10\.0\.201 \(valid for \d+ s\)", plain)


def test_in_a_pipe_there_are_plain_lines() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment(), cwd=REPOSITORY, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert LAST in done.stdout.splitlines()[-1]
    assert "who answers" not in done.stdout
