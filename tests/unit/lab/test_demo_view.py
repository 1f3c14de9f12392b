"""What the demo shows below its narration is what was observed; where there is no terminal there are plain lines."""

import contextlib
import io
import re
import threading
import time

import msgspec
import pytest
from rich.console import Console

from lab.demolive import LiveNarration
from lab.demoview import NodePicture, Picture, answers, draw
from lab.narration import Narration, is_live
from lab.netns import LabError

VIP, MAC1, MAC2 = "10.10.0.200", "02:00:00:00:00:01", "02:00:00:00:00:02"
N1 = NodePicture(name="n1", ip="10.10.0.11", mac=MAC1, daemon="pid 7", runs=True, bound=(f"{VIP} (valid for 60 s)",))
N2 = NodePicture(name="n2", ip="10.10.0.12", mac=MAC2, daemon="pid 8", runs=True, bound=())
HELD = Picture(nodes=(N1, N2), vip=VIP, asked=True, answered_by=MAC1, silent_s=0.002, neighbour=MAC1)


def seen(picture, *, width=120):
    console = Console(record=True, width=width, file=io.StringIO(), color_system=None)
    console.print(draw(picture, step="2. A Service of type LoadBalancer is created", elapsed_s=1.25))
    return console.export_text()


def changed(**changes):
    return msgspec.structs.replace(HELD, **changes)


def row(text, head):
    return next(line for line in text.splitlines() if head in line)


def test_nodes_vip_who_answers_and_the_client_s_view_are_there():
    text = seen(HELD)
    assert "2. A Service of type LoadBalancer is created" in text.splitlines()[0]
    assert "1.2 s" in text.splitlines()[-1]
    assert re.search(rf"n1 +10.10.0.11 +{MAC1} +pid 7 +{VIP} \(valid for 60 s\)", text)
    assert re.search(rf"n2 +10.10.0.12 +{MAC2} +pid 8 +none", text)
    assert f"n1 ({MAC1})" in row(text, "who answers")
    assert f"n1 ({MAC1})" in row(text, "neighbour table")


def test_a_dead_daemon_and_silence_are_told_from_what_was_before():
    dead = msgspec.structs.replace(N1, daemon="dead (exit -9)", runs=False)
    text = seen(changed(nodes=(dead, N2), silent_s=2.4))
    assert "dead (exit -9)" in row(text, "n1")
    assert VIP in row(text, "n1 "), "its kernel still has it"
    assert f"nobody, for 2.4 s; n1 ({MAC1}) did before" in row(text, "who answers")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"vip": ""}, "no VIP yet"),
        ({"asked": False}, "nobody asks now"),
        ({"answered_by": "", "silent_s": 0.6}, "nobody, for 0.6 s"),
        ({"answered_by": MAC2}, f"n2 ({MAC2})"),
        ({"answered_by": "aa:aa:aa:aa:aa:aa"}, "nobody of this LAN (aa:aa:aa:aa:aa:aa)"),
    ],
)
def test_who_answers(changes, text):
    assert answers(changed(**changes)) == text


def test_nothing_is_shown_before_it_is_known_and_trouble_is():
    text = seen(Picture(trouble="namespace n1 is closed"))
    assert "none yet" in row(text, "VIP  ")
    assert "namespace n1 is closed" in row(text, "not seen")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "live"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
    ],
)
def test_only_a_terminal_that_can_go_back_and_may_be_coloured_is_drawn_on(stream, environ, live):
    assert is_live(stream, environ) is live


def told(tell):
    with tell.watching(lambda: HELD):
        tell.step("Start")
        tell.event("n1 ready [pid 7]")
        tell.detail("more")


def test_plain_lines_are_lines(capsys):
    told(Narration())
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["", "1. Start"]
    assert re.fullmatch(r" +\d+\.\d ms  n1 ready \[pid 7\]", lines[2])
    assert lines[3:] == [" " * 15 + "more"]


def test_on_a_terminal_the_same_lines_stay_above_the_picture():
    out = Terminal()
    told(LiveNarration(Console(file=out, width=100, height=30, force_terminal=True, color_system=None, legacy_windows=False)))
    text = out.getvalue()
    assert re.search(r" ms  n1 ready \[pid 7\]\n", text), "square brackets are no markup"
    assert text.rstrip().rindex("who answers") > text.index("n1 ready")
    assert text.endswith("\x1b[?25h"), "the cursor is back"


def test_what_cannot_be_observed_stops_neither_the_steps_nor_the_picture():
    out, looked = Terminal(), threading.Event()

    def observe():
        looked.set()
        raise LabError("n1: gone")

    tell = LiveNarration(Console(file=out, width=100, height=30, force_terminal=True, color_system=None))
    with tell.watching(observe):
        assert looked.wait(5)
    assert "n1: gone" in out.getvalue()


def test_the_terminal_is_given_back_when_a_step_fails():
    out = Terminal()
    tell = LiveNarration(Console(file=out, width=100, height=30, force_terminal=True, color_system=None))
    with contextlib.suppress(ValueError), tell.watching(lambda: HELD):
        raise ValueError
    assert "\x1b[?25h" in out.getvalue()
    assert [thread for thread in threading.enumerate() if thread.name == "picture"] == []


def test_the_time_in_all_counts_from_the_start_and_not_from_the_last_step(capsys):
    tell = Narration()
    started_s = tell.began_s
    time.sleep(0.01)
    tell.step("a step")
    assert tell.began_s > tell.started_s == started_s
