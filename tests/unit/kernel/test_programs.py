"""Which programs run: by name, and never a guess where they cannot all be seen."""

from pathlib import Path

import pytest

from kvip.kernel import programs


@pytest.fixture
def root(tmp_path):
    for pid, comm in (("1", "systemd\n"), ("77", "kube-vip\n"), ("78", "kube-vipper\n"), ("self", "keepalived\n")):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "comm").write_text(comm)
    (tmp_path / "proc" / "79").mkdir()
    return tmp_path


def test_those_that_are_known_are_found_by_their_whole_name(root):
    assert programs.running({"kube-vip", "keepalived", "speaker"}, root) == {"kube-vip"}


def test_in_a_pid_namespace_of_its_own_it_says_so(monkeypatch):
    monkeypatch.setattr(programs, "_HOSTS_PIDS", 0)
    with pytest.raises(PermissionError, match="PID namespace"):
        programs.running({"kube-vip"}, Path("/"))
