"""`make image` takes the first builder that works; what each is asked to do."""

import subprocess
from pathlib import Path

import pytest

from kvip import __version__

SCRIPT = Path(__file__).parents[3] / "deploy" / "image.sh"
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
    *--version) echo "kvip {version}" ;;
    info*) exit {info} ;;
    "image inspect"*) echo 184000000 ;;
    images*) echo "184 MB" ;;
    from*) echo a-container ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Run the script with these builders: name -> the exit code of `info`."""

    def run(builders, **environment):
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("bash", "sh", "sed", "head", "seq", "date", "dirname", "basename"):
            (folder / name).symlink_to(f"/usr/bin/{name}")
        for name, code in builders.items():
            (folder / name).write_text(FAKE.format(info=code, version=__version__))
            (folder / name).chmod(0o755)
        calls = tmp_path / "calls"
        calls.touch()
        env = {"PATH": str(folder), "CALLS": str(calls), **environment}
        done = subprocess.run([str(SCRIPT)], env=env, capture_output=True, text=True, timeout=30, check=False)
        return done, calls.read_text().splitlines()

    return run


@pytest.mark.parametrize(
    ("builders", "chosen"),
    [
        ({"docker": 0, "podman": 0, "buildah": 0}, "docker"),
        ({"docker": 1, "podman": 0}, "podman"),
        ({"docker": 1, "buildah": 0}, "buildah"),
    ],
)
def test_the_first_builder_that_works_builds(run, builders, chosen):
    done, calls = run(builders)
    assert done.returncode == 0, done.stderr
    command = "bud" if chosen == "buildah" else "build"
    assert f"{chosen} {command} -t kvip:{__version__} ." in calls
    assert {call.split()[0] for call in calls if " info" not in call} == {chosen}
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"kvip:{__version__} (kvip {__version__}): built by {chosen} in ")
    assert "184 MB" in last


def test_image_base_and_flags_are_given_on(run):
    _, calls = run({"docker": 0}, IMAGE="registry.example/kvip:1", BASE="example/debian", BUILD_FLAGS="--pull --quiet")
    assert "docker build --pull --quiet --build-arg BASE=example/debian -t registry.example/kvip:1 ." in calls


def test_a_container_is_not_left_behind(run):
    assert run({"buildah": 0})[1][-1] == "buildah rm a-container"


def test_without_a_builder_it_says_what_is_needed(run):
    done, _ = run({"docker": 1})
    assert done.returncode == 1
    assert "docker, podman or buildah is needed" in done.stderr


def test_a_chosen_builder_is_not_asked_whether_it_works(run):
    _, calls = run({"docker": 0, "podman": 1}, BUILDER="podman")
    assert f"podman build -t kvip:{__version__} ." in calls
