"""What stands twice is the same: rows and figures of README and pages, bounds of scenarios, defaults of settings, transcripts."""

import re

import pytest

from kvip.options import OPTIONS
from lab.rollout import HAND_OVER_S
from lab.scene import TAKE_OVER_S
from tests.unit.docs.pages import DOCS, README, WRITTEN, blocks, section_code

DEFAULTS = {option.name: f"{option.default:g}" for option in OPTIONS if option.kind == "number"}


def flowing(path):
    """The text without its line breaks."""
    return " ".join(path.read_text().split())


def test_what_the_readme_shows_of_the_faults_is_what_the_page_has():
    page = (DOCS / "faults.md").read_text()
    rows = [line for line in README.read_text().splitlines() if line.startswith("| ") and " / " in line]
    assert len(rows) > 4
    assert [row for row in rows if row not in page.splitlines()] == []
    count = len(re.findall(r"^\| .* \| 0\.00 / 0\.00 \|", page, re.MULTILINE))
    assert f"All {count} faults" in README.read_text()


def test_what_is_said_of_the_soak_is_what_its_report_has():
    report = (DOCS / "soak.md").read_text()
    took, done, faults = (re.search(words, report)[1] for words in (r"soak: (\d+) s", r"operations done: (\d+)", r"faults injected: (\d+)"))
    said = f"{int(took):,} s of random operations and faults on three nodes ({int(done):,} operations, {int(faults):,} faults)"
    assert said in flowing(README)
    assert said in flowing(DOCS / "faults.md")
    violations, left, two_s = (
        re.search(words, report)[1] for words in (r"violations: (\d+)", r"leftovers: (\d+)", r"seconds with two answers: ([\d.]+)")
    )
    for page in (README, DOCS / "faults.md"):
        assert f"{violations} violation" in flowing(page)
        assert f"{two_s} s with two answers" in flowing(page)
        assert f"{left} leftovers" in flowing(page)


def test_the_quick_start_has_as_many_commands_as_it_says_and_the_readme_the_same_ones():
    page = DOCS / "quickstart.md"
    commands = section_code(page, "With Helm").splitlines()
    assert f"\nquick start: {len(commands)} commands; " in page.read_text()
    assert [command for command in section_code(README, "Run it").splitlines() if command not in commands] == []


def test_bounds_of_operating_are_those_of_the_scenarios():
    page = flowing(DOCS / "operate.md")
    assert f"a silence of {HAND_OVER_S:g} s at most after SIGTERM and of {TAKE_OVER_S:g} s after SIGKILL (its bounds)" in page
    assert f"a silence of up to {TAKE_OVER_S:g} s once (the bound in `tests/scenario/test_modes.py`" in page


@pytest.mark.parametrize("name", ["operate.md", "safety.md"])
def test_times_are_those_of_the_default_timers(name):
    said = ", ".join(f"`{timer}` {DEFAULTS[timer]} s" for timer in ("lease-duration", "renew-deadline"))
    assert said in flowing(DOCS / name)


def test_the_pictures_have_the_default_timers():
    lease, deadline, period = (DEFAULTS[timer] for timer in ("lease-duration", "renew-deadline", "retry-period"))
    holder = (DOCS / "pictures" / "holder.svg").read_text()
    assert f"{deadline} s: renew-deadline, {lease} s: lease-duration, renewed each {period} s (retry-period)" in holder
    assert {f"T0 + {deadline} s<", f"T0 + {lease} s or later<"} <= set(re.findall(r"T0 \+ [\d.]+ s(?: or later)?<", holder))
    overview = (DOCS / "pictures" / "overview.svg").read_text()
    assert f"may act for {deadline} s after it last renewed its lease, and is followed after {lease} s" in overview


def test_what_pages_show_of_status_and_explain_is_what_the_commands_print():
    transcripts = (DOCS / "transcripts.md").read_text()
    shown = [block for page in WRITTEN for block in blocks(page) if re.match(r"\$ kvip (status|explain)\b", block)]
    assert shown
    assert [block for block in shown if block not in transcripts] == []
