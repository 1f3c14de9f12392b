"""Figures and what is made of them: verdicts, the fitted exponent, the table, the plot, the document."""

import itertools
from xml.etree import ElementTree

import msgspec
import pytest

from benchmarks.figures import Figure, Suite, compare, exponent, paired_ratio, percentile, short, take_turns
from benchmarks.plot import svg
from benchmarks.record import keep, machine, stamp
from benchmarks.tables import plain


def figure(name="a", ratio=2.0, **terms):
    return Figure(name=name, value=10.0 * ratio, unit="ms", reference="b", reference_value=10.0, ratio=ratio, **terms)


@pytest.mark.parametrize(
    ("terms", "verdict"),
    [
        ({}, ""),
        ({"goal": 2.0}, "met"),
        ({"goal": 1.5}, "missed by 0.500"),
        ({"goal": 2.5, "better": "higher"}, "missed by 0.500"),
        ({"goal": 2.0, "better": "higher"}, "met"),
        ({"goal": 20.0, "goal_of": "value"}, "met"),
        ({"goal": 15.0, "goal_of": "value"}, "missed by 5.00 ms"),
    ],
)
def test_a_goal_is_met_or_missed_by_so_much_in_its_own_terms(terms, verdict):
    assert figure(**terms).verdict == verdict


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_of_medians():
    assert paired_ratio([1.0, 20.0, 3.0], [2.0, 10.0, 1.0]) == 2.0
    found = compare("a", [1.0, 20.0, 3.0], reference="b", reference_values=[2.0, 10.0, 1.0], unit="s")
    assert (found.value, found.reference_value, found.ratio) == (3.0, 2.0, 2.0)


def test_no_way_always_follows_the_same_one():
    order = []
    ways = {name: (lambda name=name: order.append(name)) for name in "abc"}
    samples = take_turns(ways, 30, run=lambda work, rounds: [work() for _ in range(rounds)])
    assert {name: len(values) for name, values in samples.items()} == {"a": 30, "b": 30, "c": 30}
    assert all(sorted(order[start : start + 3]) == ["a", "b", "c"] for start in range(0, 90, 3))
    assert {second for first, second in itertools.pairwise(order) if first == "a"} == {"a", "b", "c"}


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_exponent_is_that_of_a_power_law(power):
    sizes = (100, 1_000, 10_000)
    assert exponent(sizes, [3.0 * size**power for size in sizes]) == pytest.approx(power)


def test_percentiles_are_values_that_occurred():
    values = list(range(1, 101))
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(("value", "text"), [(0.893, "0.893"), (435_494.2, "435,494"), (0, "0"), (12.345, "12.3"), (0.000189, "0.000189")])
def test_numbers_have_three_significant_digits(value, text):
    assert short(value) == text


@pytest.fixture
def suite():
    found = Suite(name="frames", title="a title")
    found.add(figure("met", 1.0, goal=2.0), figure("missed < by far", 500.0, goal=2.0), figure("open", 0.0001))
    found.skip("arping", "it is not installed")
    return found


def test_a_figure_measured_again_replaces_the_former(suite):
    suite.add(figure("open", 3.0))
    assert [(each.name, each.ratio) for each in suite.figures] == [("met", 1.0), ("missed < by far", 500.0), ("open", 3.0)]


def test_the_table_says_what_was_missed_and_what_was_left_out(suite):
    text = plain([suite])
    assert "missed by 498" in text
    assert "not measured: frames, arping: it is not installed" in text
    assert "goals: 2, met: 1, missed: 1" in text


def test_all_suites_are_one_table_with_columns_of_the_same_width(suite):
    lines = plain([suite, Suite(name="cost", title="another", figures=[figure("memory", goal=2.0)])]).splitlines()
    rows = [line for line in lines if line.startswith(("figure", "met ", "memory"))]
    assert len(rows) == 3
    assert len({line.index("b  " if not line.startswith("figure") else "reference") for line in rows}) == 1


def test_the_plot_is_the_same_for_the_same_suite_with_bars_inside_the_picture(suite):
    assert svg(suite) == svg(suite)
    root = ElementTree.fromstring(svg(suite))
    width = float(root.get("viewBox").split()[2])
    boxes = [(float(box.get("x", 0)), float(box.get("width"))) for box in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(boxes) == 1 + len(suite.figures)
    assert all(x >= 0 and x + length <= width for x, length in boxes)
    assert "script" not in svg(suite)


def test_what_is_kept_of_other_suites_stays_in_the_document(tmp_path, suite):
    other = Suite(name="cost", title="another", figures=[figure("memory")])
    for each in itertools.chain([suite, other]):
        stamp(each, command="make bench-all", on=machine())
        keep([each], tmp_path / "performance")
    text = (tmp_path / "performance.md").read_text()
    assert text.index("## frames: a title") < text.index("## cost: another")
    assert "**missed by 498**" in text
    assert "## Goals: 1 of 2 met" in text
    assert "| frames | missed < by far |" in text
    assert msgspec.json.decode((tmp_path / "performance" / "frames.json").read_bytes(), type=Suite) == suite
    assert (tmp_path / "performance" / "cost.svg").exists()
