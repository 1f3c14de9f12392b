"""The metrics as a whole: named by the conventions, each one used, described in docs/metrics.md, and bounded."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from kvip import metrics
from kvip.metric_reference import described, metrics_markdown

ROOT = Path(__file__).resolve().parents[2]
SOURCES = "\n".join(path.read_text() for path in (ROOT / "kvip").rglob("*.py") if path.name not in ("metrics.py", "metric_reference.py"))
VARIABLES = [name for name, metric in vars(metrics).items() if isinstance(metric, MetricWrapperBase)]
PROMTOOL = shutil.which("promtool", path=f"/usr/bin:/usr/local/bin:{Path.home()}/.cache/kvip/bin")
UNITS = r"_(seconds|bytes|info|ratio)"


def test_the_reference_is_what_the_module_says():
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_markdown(), "regenerate it: make docs"


def test_every_metric_is_set_somewhere():
    assert {*VARIABLES, "vip_series"} <= set(re.findall(r"\bmetrics\.(\w+)", SOURCES))


def test_every_metric_is_in_the_reference_and_registered():
    exported = set(re.findall(r"^# TYPE (\S+)", generate_latest(metrics.registry).decode(), re.MULTILINE))
    # prometheus_client exports when each counter began as well.
    assert {name for name in exported if not name.endswith("_created")} == {item.name for item in described()}


def test_names_and_labels_follow_the_conventions():
    for item in described():
        assert re.fullmatch(r"kvip_[a-z]+(_[a-z]+)*", item.name)
        assert (item.kind == "counter") == item.name.endswith("_total"), item.name
        assert item.kind != "histogram" or re.search(UNITS, item.name), item.name
        assert item.help, item.name
        assert "|" not in item.help, item.name
        of_services = {"vip", "service", "namespace"} & set(item.labels)
        assert not of_services or item.name == "kvip_vip_announced", item.name


def test_the_series_per_vip_are_none_unless_asked_for_and_replaced_as_a_whole():
    name = metrics.vip_series.name
    assert not re.search(rf"^{name}\{{", generate_latest(metrics.registry).decode(), re.MULTILINE)
    try:
        metrics.vip_series.rows = ((("10.0.0.7", "default", "web"), True), (("10.0.0.8", "default", "mail"), False))
        first = generate_latest(metrics.registry).decode()
        metrics.vip_series.rows = ((("10.0.0.8", "default", "mail"), True),)
        second = generate_latest(metrics.registry).decode()
    finally:
        metrics.vip_series.rows = ()
    assert (
        f'{name}{{namespace="default",service="web",vip="10.0.0.7"}} 1.0' in first
        or f'{name}{{vip="10.0.0.7",namespace="default",service="web"}} 1.0' in first
    )
    assert "10.0.0.7" not in second
    assert len(re.findall(rf"^{name}\{{", second, re.MULTILINE)) == 1


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool here (Debian package prometheus)")
def test_promtool_has_no_complaint_about_names_and_help():
    text = generate_latest(metrics.registry)
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
