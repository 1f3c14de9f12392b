"""`kvip announce`: what it asks the daemon for, what it prints, how it fails."""

import asyncio
import json
import threading
from contextlib import contextmanager

import msgspec
import pytest

from kvip.cli import announce, main
from kvip.observe import readers
from kvip.observe.bursts import BurstOrder, BurstView, Refusal, checked


class Daemon:
    """Takes an order and sends `pace` rounds between two questions."""

    def __init__(self, *, held=("10.0.0.7", "10.0.0.8"), pace=3, ends=0):
        self.held, self.pace, self.ends = held, pace, ends
        self.orders = []
        self.view = None

    async def begin(self, order):
        wanted = msgspec.json.decode(order, type=BurstOrder)
        self.orders.append(wanted)
        named = checked(wanted)
        refused = tuple(Refusal(vip=vip, reason="held by n2_x") for vip in named if vip not in self.held)
        vips = len([vip for vip in named if vip in self.held]) if named else len(self.held)
        self.view = BurstView(id="b1", node="n1", rounds=wanted.rounds, vips=vips, sent=0, ended=0, refused=refused)
        return msgspec.json.encode(self.view)

    def progress(self, name):
        if name != "b1":
            return None
        sent = min(self.view.sent + self.pace, self.view.asked - self.ends)
        self.view = msgspec.structs.replace(self.view, sent=sent, ended=self.ends)
        return msgspec.json.encode(self.view)


@contextmanager
def serving(path, daemon):
    ready, loops = threading.Event(), []

    def run():
        async def body():
            loops.append((asyncio.get_running_loop(), asyncio.current_task()))
            serving = asyncio.create_task(readers.serve(str(path), state=None, explanation=None, bursts=daemon))
            while not path.exists():
                await asyncio.sleep(0.01)
            ready.set()
            await serving

        try:
            asyncio.run(body())
        except asyncio.CancelledError:
            pass

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(5)
    try:
        yield
    finally:
        loop, task = loops[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join(5)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("KVIP_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(announce, "POLL_S", 0.01)
    return tmp_path / "kvip.sock"


def test_all_vips_in_a_burst_and_one_line_in_the_end(path, capsys):
    daemon = Daemon()
    with serving(path, daemon):
        assert main.main(["announce"]) == 0
    shown = capsys.readouterr()
    assert daemon.orders == [BurstOrder(rounds=4)]
    assert shown.out.startswith("n1 announced 2 VIP(s) anew: 8 of 8 rounds left in ")
    assert (shown.out.count("\n"), shown.err) == (1, ""), "nothing but the last line where there is no terminal"


def test_rounds_and_vips_are_asked_for(path, capsys):
    daemon = Daemon()
    with serving(path, daemon):
        assert main.main(["announce", "--burst", "2", "--vip", "10.0.0.7, 10.0.0.9", "--json"]) == 1
        assert main.main(["announce", "--burst", "--vip=10.0.0.8"]) == 0
    assert daemon.orders == [BurstOrder(rounds=2, vips=("10.0.0.7", "10.0.0.9")), BurstOrder(rounds=4, vips=("10.0.0.8",))]
    document = json.loads(capsys.readouterr().out.rpartition("n1 announced")[0])
    assert (document["sent"], document["refused"]) == (2, [{"vip": "10.0.0.9", "reason": "held by n2_x"}])


def test_what_is_refused_or_ends_is_said_and_exit_code_1(path, capsys):
    with serving(path, Daemon()):
        assert main.main(["announce", "--vip", "10.0.0.9"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "kvip: 10.0.0.9: not announced: held by n2_x\n"
    assert shown.out == "n1 announces none of these VIPs: nothing was sent\n"
    with serving(path, Daemon(ends=2)):
        assert main.main(["announce"]) == 1
    assert "6 of 8 rounds left" in (said := capsys.readouterr().out)
    assert "2 did not" in said


def test_a_node_without_vips_has_nothing_to_do(path, capsys):
    with serving(path, Daemon(held=())):
        assert main.main(["announce"]) == 0
    assert capsys.readouterr().out == "n1 holds no VIP: nothing was sent\n"


def test_it_does_not_wait_for_rounds_that_do_not_leave(path, capsys, monkeypatch):
    monkeypatch.setattr(announce, "STALLED_S", 0.2)
    with serving(path, Daemon(pace=0)):
        assert main.main(["announce"]) == 1
    assert "no round left for 0.2 s, 0 of 8 did before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--burst", "0"], "burst: 1 to 60 rounds, not 0"),
        (["--burst", "61"], "not 61"),
        (["--vip", "10.0.0.2OO"], "vip: '10.0.0.2OO' is not an IP address"),
        (["--vip", " , "], "names no address"),
    ],
)
def test_an_argument_that_cannot_be_used_is_exit_code_2_and_nobody_is_asked(path, capsys, arguments, word):
    assert main.main(["announce", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_without_a_daemon_it_says_so(path, capsys):
    assert main.main(["announce"]) == 1
    assert f"no daemon answers on {path}" in capsys.readouterr().err
