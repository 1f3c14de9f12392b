"""Every command's help says what it is for and how it is called, within a screen before the list of settings."""

import re

import pytest

from kvip import config
from kvip.cli import main
from kvip.options import OPTIONS

WITH_SETTINGS = {"manager", "manifest", "doctor"}


def helped(capsys, *argv):
    try:
        code = main.main([*argv, "--help"])
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    return shown.out


def test_each_command_is_listed_with_a_line(capsys):
    text = helped(capsys)
    for name in main.COMMANDS:
        assert re.search(rf"^  {name} +[a-z]\S* .*", text, re.MULTILINE), name
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_says_how_it_is_called_what_it_does_an_example_and_what_its_exit_codes_mean(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    text = helped(capsys, name)
    usage, _, rest = text.partition("\n\n")
    assert usage.startswith(f"usage: kvip {name} ")
    assert len(usage.splitlines()) <= 6, "a list of all settings is no usage"
    assert len(rest.partition("\n\n")[0]) > 60, "what it is for"
    flat = " ".join(text.split())
    assert re.search(rf"Example: .*kvip {name}\b", flat)
    assert "Exit code" in flat
    assert "-h, --help" in text


@pytest.mark.parametrize("name", sorted(WITH_SETTINGS))
def test_settings_are_in_a_group_of_their_own_that_says_where_else_they_can_stand(capsys, name):
    before, _, settings = helped(capsys, name).partition("\nsettings:\n")
    assert "KVIP_LEASE_DURATION" in settings
    for option in OPTIONS:
        assert option.flag in settings
    assert "--lease-duration" not in before
    assert "(lease-duration = 5)" in config._SETTINGS
