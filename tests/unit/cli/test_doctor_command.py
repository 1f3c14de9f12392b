"""`kvip doctor` around its judgement: arguments, exit codes, text and JSON."""

import json

import msgspec
import pytest

from kvip.cli import doctor, host_survey, main
from kvip.core.doctor.facts import Unseen
from tests.unit.core.doctor.recorded import HEALTHY, host


@pytest.fixture
def gathered(monkeypatch):
    """Facts instead of a look at this machine; and the settings that were asked for."""
    asked = []

    def give(facts):
        def gather(settings, *, root):
            asked.append((settings, root))
            return facts

        monkeypatch.setattr(doctor, "gather", gather)
        return asked

    return give


@pytest.mark.parametrize(
    ("facts", "code"),
    [(HEALTHY, 0), (host(clock_synchronised=False), 0), (host(release="5.4.0"), 1)],
    ids=["nothing", "a note", "a problem"],
)
def test_the_exit_code_is_1_for_what_matters(gathered, capsys, facts, code):
    gathered(facts)
    assert main.main(["doctor"]) == code
    assert main.main(["doctor", "--json"]) == code


def test_text_says_what_was_seen_what_was_not_and_each_finding(gathered, capsys):
    gathered(msgspec.structs.replace(host(release="5.4.0"), unseen=(Unseen(what="Pods on this node", why="403 Forbidden\x1b[2J"),)))
    main.main(["doctor"])
    text = capsys.readouterr().out
    assert "  kernel      Linux 5.4.0\n" in text
    assert "not looked at\n  Pods on this node: 403 Forbidden?[2J\n" in text
    assert "PROBLEM  kernel-no-mark: Linux 5.4.0 keeps no mark" in text
    assert "\n  mend  apt-get install" in text
    assert text.endswith("\n1 problem(s), 0 note(s)\n")
    assert max(len(line) for line in text.splitlines() if "mend" not in line) <= doctor.WIDTH


def test_nothing_found_is_said(gathered, capsys):
    gathered(HEALTHY)
    main.main(["doctor"])
    assert capsys.readouterr().out.endswith("\nnothing found that matters\n")


def test_json_holds_the_same(gathered, capsys):
    gathered(msgspec.structs.replace(host(release="5.4.0", clock_synchronised=False), unseen=(Unseen(what="a", why="b"),)))
    main.main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["problems"] == 1
    assert [(finding["check"], finding["level"]) for finding in document["findings"]] == [
        ("kernel-no-mark", "problem"),
        ("clock-off", "note"),
    ]
    assert all(finding[word] for finding in document["findings"] for word in ("what", "why", "mend"))
    assert {"subject": "kernel", "state": "Linux 5.4.0"} in document["seen"]
    assert document["unseen"] == [{"what": "a", "why": "b"}]


def test_it_takes_the_daemons_settings_from_flags_and_variables(gathered, monkeypatch, tmp_path):
    asked = gathered(HEALTHY)
    monkeypatch.setenv("KVIP_NODE_NAME", "n7")
    (tmp_path / "proc").mkdir()
    main.main(["doctor", "--host-root", str(tmp_path), "--interface", "eth7", "--json", "--vipSubnet", "32"])
    settings, root = asked[0]
    assert (settings.node_name, settings.interface, root) == ("n7", "eth7", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "word"), [(["--interface", "auto"], "interface"), (["--no-such"], "no-such"), (["--host-root", "/no"], "host-root")]
)
def test_a_setting_that_cannot_be_used_is_exit_code_2(gathered, capsys, arguments, word):
    gathered(HEALTHY)
    assert main.main(["doctor", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_help_lists_its_flags_and_the_settings(capsys):
    assert main.main(["doctor", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--host-root" in text
    assert "--services-interface" in text


def test_the_lock_of_a_running_daemon_is_told_by_its_name(monkeypatch, tmp_path):
    head = "Num       RefCount Protocol Flags    Type St Inode Path\n"
    table = tmp_path / "unix"
    monkeypatch.setattr(host_survey, "UNIX_SOCKETS", table)
    table.write_text(head + "0000: 00000002 00000000 00010000 0001 01 1 @kvip-other\n0000: 00000002 00000000 00010000 0001 01 2\n")
    assert host_survey.daemon_runs() is False
    table.write_text(head + "0000: 00000002 00000000 00010000 0001 01 1 @kvip\n")
    assert host_survey.daemon_runs() is True
