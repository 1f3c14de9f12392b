"""The version before this one is the one that the history has, or it is said why there is none."""

import pytest

from lab import previous
from lab.netns import LabError


def test_a_history_without_the_commit_is_named_as_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(previous, "COMMIT", "0" * 40)
    assert "git fetch --unshallow" in previous.missing()
    with pytest.raises(LabError, match="without its history"):
        previous.unpacked()
    assert list(tmp_path.iterdir()) == []


def test_without_git_that_is_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert previous.missing().endswith("no git")


def test_what_is_in_the_cache_already_needs_no_history(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(previous, "COMMIT", "0" * 40)
    previous._folder().mkdir(parents=True)
    assert previous.missing() == ""
    assert previous.unpacked() == previous._folder()
