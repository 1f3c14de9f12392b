"""How .ci/run runs its stages: with stubs for the stages, what is said, in which order, and what fails the run."""

import re
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAD = f"set -euo pipefail\n. {ROOT}/.ci/stages.sh\n"


@pytest.fixture
def run(tmp_path):
    """Runs a script with stages, and one with those beside; (exit code, what was printed)."""

    def run(script, beside=""):
        work = tmp_path / "work"
        work.mkdir()
        other = tmp_path / "beside"
        other.write_text(f"#!/usr/bin/env bash\n{HEAD}SECONDS=$1\nstand_back\nhold_back\n{beside}")
        other.chmod(0o755)
        done = subprocess.run(
            ["bash", "-c", f"{HEAD}trap over EXIT\n{script}"], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CI_WORK": str(work)},
            cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        assert not work.exists()
        return done.returncode, done.stdout

    return run


def outcomes(text):
    """The table: stage -> outcome."""
    rows = text[re.search(r"^stage +s +outcome$", text, re.MULTILINE).end() :].splitlines()
    return {found[1]: found[2] for row in rows if (found := re.match(r"(\S.*?) +(?:\d+|-) *(.*)", row))}


def test_stages_run_in_turn_and_each_has_its_row(run):
    code, text = run("stage one echo 1\noptional two 9 '' echo 2\noptional three 9 'no three' echo 3")
    assert code == 0
    assert outcomes(text) == {"one": "passed", "two": "passed", "three": "NOT RUN: no three", "all of it": ""}
    assert text.index("\n1\n") < text.index("\n2\n")
    assert "\n3\n" not in text


def test_a_stage_that_fails_is_tried_once_more_and_then_ends_the_run(run):
    code, text = run(
        "stage one sh -c 'echo tried; test -e again || ! touch again'\nstage two sh -c 'echo in vain; false'\nstage three echo 3"
    )
    assert code == 1
    assert outcomes(text) == {"one": "passed the second time", "two": "FAILED", "all of it": ""}
    assert (text.count("tried\n"), text.count("in vain\n")) == (2, 2)


def test_a_stage_that_no_time_is_left_for_is_not_run(run):
    code, text = run("limit_s=5\noptional one 6 '' echo 1\nlimit_s=0\nstage two echo 2")
    assert code == 1
    assert outcomes(text)["one"].startswith("NOT RUN: it may take 6 s")
    assert outcomes(text)["two"] == "FAILED"


def test_what_runs_beside_is_shown_in_one_piece_when_it_is_over(run):
    """The stage here goes on only when the one beside has printed a part, and that one only when it has seen the next."""
    code, text = run(
        "begin_beside ./beside\nstage here sh -c 'until test -e begun; do sleep 0.02; done; touch seen; echo here'\nend_beside",
        beside="stage there sh -c 'echo first; touch begun; until test -e seen; do sleep 0.02; done; echo last'",
    )
    assert code == 0
    assert {"here": "passed", "there": "passed, beside others"}.items() <= outcomes(text).items()
    assert re.search(r"== there\nfirst\nlast\n== there: \d+ s\n", text)


def test_what_runs_beside_has_only_the_time_that_nobody_wants(run):
    _, text = run("begin_beside ./beside\nend_beside", beside="stage there sh -c 'chrt --pid $$'")
    assert "SCHED_IDLE" in text


def test_what_fails_beside_fails_the_run_before_its_next_stage(run):
    code, text = run(
        "begin_beside ./beside\nstage here sh -c 'until grep -qs FAILED work/table; do sleep 0.02; done'\nstage next echo next",
        beside="stage there sh -c 'echo in vain; false'\nstage after echo after",
    )
    assert code == 1
    assert outcomes(text) == {"there": "FAILED, beside others", "here": "passed", "all of it": ""}
    assert text.count("in vain\n") == 2


def test_what_fails_beside_fails_the_run_at_its_end_too(run):
    code, text = run("begin_beside ./beside\nend_beside\nstage next echo next", beside="stage there false")
    assert code == 1
    assert outcomes(text) == {"there": "FAILED, beside others", "all of it": ""}


def test_a_run_that_fails_ends_what_runs_beside(run, tmp_path):
    code, text = run(
        "begin_beside ./beside\nstage here sh -c 'until test -s pid; do sleep 0.02; done; false'",
        beside="stage there sh -c 'echo $$ >pid; exec sleep 60'",
    )
    assert code == 1
    assert outcomes(text) == {"here": "FAILED", "all of it": ""}
    process = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}")
    until = time.monotonic() + 5
    while process.exists() and time.monotonic() < until:  # killed, and not yet taken leave of by its new parent
        time.sleep(0.02)
    assert not process.exists()
