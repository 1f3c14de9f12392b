"""The tables of rules, of known holes and of what stands in for kube-vip have every row, and name tests that exist."""

import re
from pathlib import Path

import pytest

from kvip.aliases import FOREIGN
from kvip.core.annotations import SCHEMA
from kvip.kube_vip_flags import BY_VARIABLE
from kvip.options import OPTIONS

ROOT = Path(__file__).resolve().parents[3]
NAME = re.compile(r"`(test_\w+)`")
RINGS = {
    ring: {name for path in (ROOT / "tests" / ring).rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    for ring in ("unit", "netns", "scenario")
}
TESTS = set().union(*RINGS.values())
RULES = [f"{letter}{number}" for letter, last in (("R", 7), ("T", 5), ("K", 9), ("F", 2), ("G", 5)) for number in range(1, last + 1)]


def rows(document):
    lines = [line for line in (ROOT / "docs" / document).read_text().splitlines() if re.match(r"\| [A-Z]\d+\b", line)]
    return {re.match(r"\| ([A-Z]\d+)", line)[1]: line for line in lines}


@pytest.mark.parametrize("document", ["known-holes.md", "protocol-tests.md", "drop-in-tests.md", "threats.md"])
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


# What stands in for kube-vip

DROP_IN = (ROOT / "docs" / "drop-in-tests.md").read_text()
SETTINGS = [alias for option in OPTIONS for alias in option.alias] + [item.name for item in FOREIGN if item.treatment == "followed"]
WORDS = {"refused": "refused", "warned": "warning", "none": "no effect"}
OFF_THE_WIRE = {"left alone", "vip_loglevel", "warning", "no effect"}
"""Rows that change nothing that is bound, announced, elected or written."""


def table(heading):
    """The rows of the table with this heading: first cell, without quotes -> the cells."""
    lines = DROP_IN[DROP_IN.index(f"\n| {heading} |") + 1 :].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip().strip("`"): row for row in cells}


def by_ring(cell):
    return {part.split(":")[0].strip(): set(NAME.findall(part)) for part in cell.split("; ")}


def test_every_annotation_that_is_followed_has_a_row():
    followed = [annotation.key for annotation in SCHEMA if annotation.treatment in ("read", "written")]
    others = dict.fromkeys(annotation.treatment for annotation in SCHEMA if annotation.key not in followed)
    assert list(table("annotation")) == [*followed, *others]


def test_every_variable_that_is_followed_has_a_row_with_its_flag():
    assert {name: row[1].strip("`") for name, row in table("variable").items()} == {name: BY_VARIABLE.get(name, "") for name in SETTINGS}


def test_every_other_treatment_has_a_row():
    assert list(table("treatment of the others")) == [
        WORDS[treatment] for treatment in dict.fromkeys(item.treatment for item in FOREIGN) if treatment != "followed"
    ]


@pytest.mark.parametrize("heading", ["annotation", "variable", "treatment of the others"])
def test_every_row_names_a_test_of_the_ring_that_it_says_and_a_scenario_where_something_changes_outside(heading):
    for name, row in table(heading).items():
        named = by_ring(row[-1])
        assert named.keys() <= RINGS.keys(), name
        assert all(tests and tests <= RINGS[ring] for ring, tests in named.items()), name
        assert "scenario" in named or name in OFF_THE_WIRE, name


def test_every_edit_names_its_scenario():
    for edit, row in table("edit").items():
        assert set(NAME.findall(row[-1])), edit
        assert set(NAME.findall(row[-1])) <= RINGS["scenario"], edit


def test_every_threat_names_a_test():
    lines = (ROOT / "docs" / "threats.md").read_text().splitlines()
    threats = [line for line in lines if line.startswith("| ") and line.count(" | ") == 3 and not line.startswith("| who |")]
    assert len(threats) > 20
    assert [line for line in threats if not NAME.search(line)] == []
