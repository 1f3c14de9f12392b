"""The tables of rules and of known holes have every row, and name tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"`(test_\w+)`")
TESTS = {name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())}
RULES = [f"{letter}{number}" for letter, last in (("R", 7), ("T", 5), ("K", 9), ("F", 2), ("G", 5)) for number in range(1, last + 1)]


def rows(document):
    lines = [line for line in (ROOT / "docs" / document).read_text().splitlines() if re.match(r"\| [A-Z]\d+\b", line)]
    return {re.match(r"\| ([A-Z]\d+)", line)[1]: line for line in lines}


@pytest.mark.parametrize("document", ["known-holes.md", "protocol-tests.md"])
def test_every_test_that_is_named_exists(document):
    named = set(NAME.findall((ROOT / "docs" / document).read_text()))
    assert named
    assert named <= TESTS


def test_every_rule_has_a_row_and_every_row_a_test():
    table = rows("protocol-tests.md")
    assert list(table) == RULES
    assert [rule for rule, line in table.items() if not NAME.search(line)] == []


def test_every_hole_has_a_row_and_its_scenario_or_the_reason_why_not():
    table = rows("known-holes.md")
    assert list(table) == [f"H{number}" for number in range(1, 25)]
    for hole, line in table.items():
        assert "Does not apply" in line or any(name.startswith(f"test_{hole.lower()}_") for name in NAME.findall(line)), hole
