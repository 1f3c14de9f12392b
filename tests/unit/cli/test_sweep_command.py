"""`kvip sweep` before it touches anything: arguments, exit codes, where the VIPs come from, and its output."""

import json

import msgspec
import pytest

from kvip.cli import cluster_vips, main, sweep
from kvip.cli.known_vips import from_journal
from kvip.cli.rows import Row, as_json, as_table
from kvip.core.desired import Rules
from kvip.core.ledger import Claimant
from kvip.daemon import journal
from kvip.errors import ConfigError


@pytest.fixture(autouse=True)
def never(monkeypatch):
    """No test here may reach the kernel."""
    monkeypatch.setattr(sweep, "AddressSocket", lambda: pytest.fail("opened a netlink socket"))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--also", "everything"], "everything"),
        (["--also", " , "], "names nothing"),
        (["--vips", "10.0.0.7"], "--adopt"),
        (["--kubeconfig", "x"], "--adopt"),
        (["--adopt", "--vips", "10.0.0"], "10.0.0"),
        (["--adopt", "--vips", ","], "names no address"),
        (["--adopt", "--vips", "10.0.0.7", "--kubeconfig", "x"], "one of them"),
        (["--adopt", "--vips", "10.0.0.7", "--lifetime", "5"], "--lifetime"),
    ],
)
def test_a_word_that_cannot_be_used_is_exit_code_2_and_named(arguments, word, capsys):
    assert main.main(["sweep", *arguments]) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--no-such"], ["--lifetime", "soon"], ["--dry"], ["10.0.0.7"]])
def test_an_unknown_flag_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["sweep", *arguments])
    assert caught.value.code == 2
    assert "usage: kvip sweep" in capsys.readouterr().err


def test_without_root_it_says_so_and_touches_nothing(monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main.main(["sweep", "--dry-run"]) == 1
    assert "needs root" in capsys.readouterr().err


def test_adopting_without_knowing_any_vip_is_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(sweep, "LOCK_NAME", f"\0kvip-test-{tmp_path}"[:100])
    assert main.main(["sweep", "--adopt", "--state-dir", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert "--vips" in complaint
    assert str(tmp_path) in complaint


def write_journal(directory, **fields):
    content = journal.Journal(
        boot_id=fields.pop("boot_id", journal.boot_id()),
        node="n1",
        incarnation="n1_x",
        claims={"10.0.0.7": (Claimant(uid="u", service="default/web"),)},
        **fields,
    )
    lines = [journal.line(vip, claimants) for vip, claimants in content.claims.items()]
    journal.save(directory, journal.document(content, lines))


def test_the_journal_names_vips_and_their_services(tmp_path):
    write_journal(tmp_path)
    assert from_journal(str(tmp_path)) == {"10.0.0.7": ("default/web",)}


@pytest.mark.parametrize(
    ("fault", "word"), [("missing", "no journal"), ("torn", "torn"), ("format", "of a newer kvip"), ("boot", "earlier boot")]
)
def test_a_journal_that_cannot_be_used_is_refused_and_left_where_it_is(tmp_path, fault, word):
    path = tmp_path / journal.FILE_NAME
    match fault:
        case "torn":
            path.write_bytes(b'{"format": 1, "boot')
        case "format":
            write_journal(tmp_path, format=99)
        case "boot":
            write_journal(tmp_path, boot_id="another")
    before = sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir())
    with pytest.raises(ConfigError, match=word):
        from_journal(str(tmp_path))
    assert sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir()) == before


class FakeConnection:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


def service(name, ip, **spec):
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"type": "LoadBalancer", "loadBalancerIP": ip, **spec},
    }


async def test_the_api_names_the_vips_of_our_services_page_by_page_and_no_nodes_address(monkeypatch):
    pages = {
        "/api/v1/nodes": [[{"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}]],
        "/api/v1/services": [
            [service("web", "10.0.0.7"), service("node", "10.0.0.1"), {"metadata": {"name": "broken"}, "spec": {"type": 7}}],
            [service("mail", "10.0.0.7"), service("theirs", "10.0.0.8", loadBalancerClass="metallb"), service("bad", "web.example")],
        ],
    }

    class FakeApi:
        def __init__(self, connection):
            pass

        async def get(self, path, *, params, deadline_s):
            number = int(params.get("continue", "0"))
            token = str(number + 1) if number + 1 < len(pages[path]) else ""
            return msgspec.json.encode({"metadata": {"resourceVersion": "1", "continue": token}, "items": pages[path][number]})

    async def connect(*, kubeconfig):
        assert kubeconfig == "config"
        return FakeConnection()

    monkeypatch.setattr(cluster_vips, "connect", connect)
    monkeypatch.setattr(cluster_vips, "Api", FakeApi)
    found = await cluster_vips.from_api("config", Rules(load_balancer_class="kvip"))
    assert found == {"10.0.0.7": ("default/web", "default/mail")}


ROWS = [
    Row(kind="address", what="10.0.0.7/32", where="eth0", whose="kvip (default/web)", action="remove", result="removed"),
    Row(kind="rule", what="x" * 100, where="nft ip\x1b[2J", action="leave", result="y" * 100, ok=False),
]


def test_the_table_is_aligned_cut_and_safe_for_a_terminal():
    lines = as_table(ROWS).splitlines()
    assert lines[0].split() == ["KIND", "WHAT", "WHERE", "WHOSE", "ACTION", "RESULT"]
    assert len({line.index(text) for line, text in zip(lines, ("RESULT", "removed", "yyy"), strict=True)}) == 1
    assert "x" * 61 + "..." in lines[2]
    assert "y" * 100 in lines[2]
    assert "\x1b" not in lines[2]
    assert as_table([]) == ""


def test_json_holds_everything_whole():
    document = json.loads(as_json(ROWS, dry_run=True))
    assert (document["dry_run"], document["problems"]) == (True, 1)
    assert document["rows"][1]["what"] == "x" * 100
    assert document["rows"][1]["ok"] is False


def test_the_command_is_listed():
    assert "sweep" in main.usage()
