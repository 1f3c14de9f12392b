"""`kvip status` and `kvip explain`: where they look, what they print, how they fail."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer

import msgspec
import pytest

from kvip.cli import daemon_view, main, sources, status
from kvip.cli.status_text import COLOURS, age, changed_lines, status_lines
from kvip.observe.cluster import ClusterState
from kvip.observe.explaining import explain
from kvip.observe.standing import State
from lab import transcripts
from lab.knowledge import INSTANTS, Knowledge, announced, elsewhere, service

VIP, OTHER = "10.10.0.200", "10.10.0.201"


@contextmanager
def answering(path, answers):
    """A daemon's socket with these documents."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body if body is not None else b"no such page")

        def log_message(self, *_):
            pass

        def address_string(self):
            return "reader"

    with UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("KVIP_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path / "kvip.sock"


def known(**happened):
    services = [service("web", VIP, shows=[VIP]), service("db", OTHER, shows=[OTHER])]
    return Knowledge(services=services, happened={VIP: announced(VIP), OTHER: elsewhere(), **happened})


def test_the_daemon_is_asked_at_its_default_place(path, capsys):
    with answering(path, {"/state": msgspec.json.encode(known().view())}):
        assert main.main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("n1: kvip 0.1.0, election claims, may act for 2.4 s, synced, loop lag 1 ms")
    assert [line.split()[:3] for line in lines[-2:]] == [[VIP, "announced", "n1"], [OTHER, "held-elsewhere", "n2"]]
    assert not any("\x1b" in line for line in lines), "no colour where there is no terminal"


def test_json_is_the_daemon_s_document(path, capsys):
    document = msgspec.json.encode(known().view())
    with answering(path, {"/state": document}):
        assert main.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(document)


@pytest.mark.parametrize(("name", "code"), [("default/web", 0), ("default/none", 1)])
def test_explain_ends_with_0_where_it_works(path, capsys, name, code):
    document = msgspec.json.encode(explain(known().case(name), INSTANTS))
    with answering(path, {f"/explain?service={name.replace('/', '%2F')}": document}):
        assert main.main(["explain", name]) == code
        out = capsys.readouterr().out
        assert out.splitlines()[-1].startswith("cause: ")
        assert main.main(["explain", name, "--json"]) == code
    assert json.loads(capsys.readouterr().out) == json.loads(document)


@pytest.mark.parametrize("command", [["status"], ["explain", "default/web"]])
def test_without_daemon_and_kubeconfig_it_says_where_it_looked(path, capsys, command):
    assert main.main(command) == 1
    complaint = capsys.readouterr().err
    assert str(path) in complaint
    assert "there is no such socket" in complaint


def test_a_kubeconfig_that_is_there_is_used_where_no_daemon_is(path, monkeypatch, capsys):
    asked = []
    monkeypatch.setenv("KUBECONFIG", f"/nowhere:{__file__}")
    monkeypatch.setattr(sources, "_cluster", lambda _, kubeconfig: asked.append(kubeconfig) or transcripts.cluster())
    assert main.main(["status"]) == 0
    assert "election claims" in capsys.readouterr().out
    assert main.main(["explain", "default/web"]) == 0
    assert asked == [f"/nowhere:{__file__}"] * 2
    with answering(path, {"/state": msgspec.json.encode(known().view())}):
        assert main.main(["status"]) == 0
    assert len(asked) == 2, "a daemon on this host is asked first"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["status", "--socket", "/x", "--kubeconfig", "/y"], "one of them"),
        (["status", "--watch", "--interval", "0"], "interval"),
        (["status", "--kubeconfig", "/nowhere"], "no such file"),
        (["explain", "web"], "NAMESPACE/SERVICE"),
        (["explain", "a/b/c"], "NAMESPACE/SERVICE"),
        (["explain", "/b"], "NAMESPACE/SERVICE"),
    ],
)
def test_an_argument_that_cannot_be_used_is_exit_code_2_and_named(path, arguments, word, capsys):
    assert main.main(arguments) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answers", "word"),
    [({}, "404: no such page"), ({"/state": b"{}"}, "of another version"), ({"/state": b"\xff"}, "of another version")],
)
def test_an_answer_that_cannot_be_used_is_said_so(path, answers, word, capsys):
    with answering(path, answers):
        assert main.main(["status"]) == 1
    assert word in capsys.readouterr().err


def test_the_socket_is_where_the_settings_of_the_daemon_say(monkeypatch):
    monkeypatch.delenv("KVIP_STATE_DIR", raising=False)
    assert daemon_view.default_socket() == "/run/kvip/kvip.sock"
    monkeypatch.setenv("KVIP_STATE_DIR", "/var/kvip")
    assert daemon_view.default_socket() == "/var/kvip/kvip.sock"
    monkeypatch.setenv("KVIP_SOCKET", "/run/x")
    assert daemon_view.default_socket() == "/run/x"


def test_watch_prints_what_changed_and_survives_a_restart_of_the_daemon(monkeypatch, capsys):
    first, gone = known().view(), daemon_view.NoDaemon("no daemon answers")
    second = msgspec.structs.replace(first, vips=first.vips[1:], at="2026-11-28T02:00:05.000Z")
    looks = iter([first, first, gone, gone, second, KeyboardInterrupt()])

    def look(_):
        found = next(looks)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(sources, "state", look)
    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    assert main.main(["status", "--watch"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split()[1] for line in lines] == ["node", VIP, OTHER, VIP]
    assert lines[-1] == f"2026-11-28T02:00:05.000Z  {VIP}  gone"
    assert captured.err.count("no daemon answers") == 1


def test_watch_of_a_daemon_that_never_answered_ends(path, capsys):
    assert main.main(["status", "--watch"]) == 1
    assert "no daemon answers" in capsys.readouterr().err


def test_a_line_for_a_log_does_not_change_by_itself():
    view = known().view()
    daemon = msgspec.structs.replace(view.daemon, valid_s=1.1, loop_lag_s=0.2, valid_until="2026-11-28T02:00:09.000Z")
    vips = tuple(msgspec.structs.replace(row, permit_until="x", expires_at="x", last_announced="x", rounds=99) for row in view.vips)
    assert changed_lines(view, msgspec.structs.replace(view, at="later", daemon=daemon, vips=vips)) == []
    fenced = msgspec.structs.replace(view, daemon=msgspec.structs.replace(daemon, valid_s=0.0))
    assert [line.split()[1:4] for line in changed_lines(view, fenced)] == [["node", "n1", "holds"]]


def test_colour_is_for_the_state_alone_and_every_state_has_one():
    plain, coloured = (status_lines(transcripts.busy().view(), colour=colour) for colour in (False, True))
    assert [line.replace("\x1b[0m", "") for line in coloured] != plain
    for code in set(COLOURS.values()):
        coloured = [line.replace(f"\x1b[{code}m", "").replace("\x1b[0m", "") for line in coloured]
    assert coloured == plain
    assert set(COLOURS) == {*State.__args__, *ClusterState.__args__}


@pytest.mark.parametrize(
    ("since", "text"),
    [("", ""), ("2026-11-28T01:59:48.900Z", "11s"), ("2026-11-28T01:50:00Z", "10m"), ("2026-11-27T02:00:00Z", "24h"), ("x", "x"),
     ("2026-11-25T02:00:00Z", "3d"), ("2026-11-28T03:00:00Z", "0s")],
)  # fmt: skip
def test_ages_are_short(since, text):
    assert age(since, "2026-11-28T02:00:00.000Z") == text


def test_other_peoples_text_does_not_steer_the_terminal():
    view = Knowledge(services=[service("web", "\x1b[2J")]).view()
    assert not any("\x1b" in line for line in [*status_lines(view), *changed_lines(None, view)])
