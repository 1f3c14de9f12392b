"""What the table says of benchmarks that it has no figures of."""

from types import SimpleNamespace

import pytest

from benchmarks.figures import Figure, Skipped, Suite
from benchmarks.progress import Progress, suite_of

ITEM = "benchmarks/test_cost.py::test_cost[10-vips]"
TRACEBACK = ">       assert 1 == 2\nE       AssertionError: no heartbeats\nE       assert 1 == 2\n\ntest_cost.py:7: AssertionError"


def report(*, when="call", outcome="passed", longrepr=None, text="", nodeid=ITEM):
    return SimpleNamespace(
        nodeid=nodeid, when=when, failed=outcome == "failed", skipped=outcome == "skipped", longrepr=longrepr, longreprtext=text
    )


@pytest.fixture
def suite():
    return Suite(name="cost", title="a title", figures=[Figure(name="a", value=1, unit="s", reference="b", reference_value=1, ratio=1)])


@pytest.fixture
def progress():
    progress = Progress()
    progress.expect([SimpleNamespace(nodeid=ITEM), SimpleNamespace(nodeid="benchmarks/test_scale.py::test_scale[5]")])
    return progress


def why(progress, suite):
    return [(each.name, each.reason) for each in progress.complete(suite).skipped]


def test_what_a_run_did_not_come_to_is_named_until_it_has_passed(progress, suite):
    assert why(progress, suite) == [("cost[10-vips]", "the run has not come to it")]
    progress.report(report(when="setup"))
    assert len(why(progress, suite)) == 1
    progress.report(report())
    progress.report(report(when="teardown"))
    assert why(progress, suite) == []


def test_what_failed_is_named_with_its_error_and_the_figures_stay(progress, suite):
    progress.report(report(outcome="failed", text=TRACEBACK))
    progress.report(report(when="teardown"))
    assert why(progress, suite) == [("cost[10-vips]", "it failed: AssertionError: no heartbeats")]
    assert progress.complete(suite).figures == suite.figures


def test_what_failed_before_it_began_is_named(progress, suite):
    progress.report(report(when="setup", outcome="failed", text="E   lab.netns.LabError: did not happen"))
    assert why(progress, suite) == [("cost[10-vips]", "it failed: lab.netns.LabError: did not happen")]


def test_what_was_skipped_is_named_with_the_reason(progress, suite):
    progress.report(report(when="setup", outcome="skipped", longrepr=("a.py", 1, "Skipped: long; runs with --all")))
    assert why(progress, suite) == [("cost[10-vips]", "long; runs with --all")]


def test_what_the_suite_itself_left_out_stays_named(progress, suite):
    suite.skip("arping", "it is not installed")
    progress.report(report())
    assert progress.complete(suite).skipped == [Skipped(name="arping", reason="it is not installed")]


def test_a_suite_without_any_figure_is_named_too(progress, suite):
    progress.report(report())
    assert list(progress.elsewhere({"cost"})) == ["not measured: scale, scale[5]: the run has not come to it"]


def test_the_suite_is_the_file():
    assert suite_of(ITEM) == "cost"
