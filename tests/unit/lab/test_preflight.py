"""What preflight says about a machine, and that it runs on a bare and on an old Python."""

import ast
import pathlib
import subprocess
import sys

import pytest

from lab import preflight
from lab.preflight import TOOLS, Host, namespaces, verdict

REPOSITORY = pathlib.Path(preflight.__file__).parent.parent


def host(**changes):
    whole = Host(version=(3, 11, 2), executable="/usr/bin/python3", tools=frozenset(TOOLS), venv=True, compiler=True, headers=True)
    return whole._replace(**changes)


def without(*tools):
    return frozenset(TOOLS) - set(tools)


def test_a_whole_machine_gets_no_line():
    assert verdict(host()) == (0, "")


@pytest.mark.parametrize(
    ("found", "packages"),
    [
        (host(tools=without("ip")), "iproute2"),
        (host(tools=without("nft")), "nftables"),
        (host(tools=without("unshare", "nsenter")), "util-linux"),
        (host(venv=False), "python3-venv"),
        (host(tools=frozenset(), venv=False, compiler=False, headers=False), "iproute2 nftables util-linux gcc python3-venv python3-dev"),
    ],
)
def test_what_is_missing_is_one_line_with_only_the_packages_to_install(found, packages):
    code, line = verdict(found)
    assert code == 1
    assert "\n" not in line
    assert line.endswith(f"install with: apt-get install -y {packages}")


@pytest.mark.parametrize(("found", "package"), [(host(compiler=False), "gcc"), (host(headers=False), "python3-dev")])
def test_no_compiler_is_only_a_note(found, package):
    code, line = verdict(found)
    assert code == 0
    assert line.startswith("note:")
    assert line.endswith(f"apt-get install -y {package}")


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 10, 12)])
def test_an_old_python_is_refused_by_name_and_version(version):
    code, line = verdict(host(version=version, executable="/opt/old/python3", tools=frozenset()))
    assert code == 1
    assert "Python 3.11 or newer" in line
    assert f"/opt/old/python3 is {'.'.join(map(str, version))}" in line


def test_the_source_is_syntax_that_an_old_python_reads():
    for path in (REPOSITORY / "lab" / "preflight.py", REPOSITORY / "lab" / "__init__.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_it_runs_without_any_installed_package_and_names_all_tools_when_there_are_none(tmp_path):
    run = "import sys, lab.preflight as p; p.search_path = lambda: sys.argv[1]; sys.exit(p.main([]))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", run, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("missing: ip, nft, unshare, nsenter")
    assert "apt-get install -y iproute2 nftables util-linux" in done.stderr
    assert done.stderr.count("\n") == 1


def test_system_directories_are_searched_even_when_path_lacks_them(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/sbin")
    assert preflight.search_path() == "/usr/bin:/sbin:/usr/sbin"


def test_root_uses_plain_namespaces():
    assert namespaces(lambda command: "", root=True).command == ["unshare", "-n", "-m"]


def test_root_without_the_right_falls_back_to_a_user_namespace():
    found = namespaces(lambda command: "" if "-r" in command else "Operation not permitted", root=True)
    assert found.command == ["unshare", "-r", "-n", "-m"]


def test_an_ordinary_user_is_only_tried_with_a_user_namespace():
    tried = []
    found = namespaces(lambda command: tried.append(command) or "", root=False)
    assert tried == [["unshare", "-r", "-n", "-m"]]
    assert found.command == tried[0]


@pytest.mark.parametrize(("root", "advice"), [(True, "CAP_SYS_ADMIN"), (False, "run it as root")])
def test_where_nothing_works_the_reason_is_one_line_with_the_kernels_words(root, advice):
    found = namespaces(lambda command: "unshare failed: Operation not permitted", root=root)
    assert found.command is None
    assert "unshare failed: Operation not permitted" in found.reason
    assert advice in found.reason
    assert "\n" not in found.reason


def test_a_command_that_does_not_exist_is_a_reason_and_not_a_traceback():
    assert "kvip-no-such-program" in preflight._try(["kvip-no-such-program"])


def test_a_try_that_fails_gives_its_words():
    assert preflight._try(["/bin/sh", "-c", "echo closed here >&2; exit 1"]) == "closed here"
