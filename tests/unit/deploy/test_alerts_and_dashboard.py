"""deploy/alerts.yaml and deploy/grafana.json: well formed, and every metric and label that they name is one of kvip's."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kvip.metric_reference import described

ROOT = Path(__file__).resolve().parents[3]
ALERTS = ROOT / "deploy" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana.json"
KNOWN = {series: item for item in described() for series in item.series}
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
PANELS = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
}
OF_PROMETHEUS = {"instance", "le"}
PROMTOOL = shutil.which("promtool", path=f"/usr/bin:/usr/local/bin:{Path.home()}/.cache/kvip/bin")


def names(text):
    return set(re.findall(r"kvip_[a-z_]+", text))


def labels(expression):
    """Labels that an expression selects or groups by."""
    selected = re.findall(r"[{,]\s*([a-z_]+)\s*(?:=|!)", expression)
    grouped = [label for part in re.findall(r"(?:by|on|ignoring|without) \(([^)]*)\)", expression) for label in re.split(r",\s*", part)]
    return {*selected, *grouped} - {""}


def test_every_metric_and_label_is_one_of_kvips():
    assert EXPRESSIONS
    for place, expression in EXPRESSIONS.items():
        assert names(expression), place
        assert names(expression) <= set(KNOWN), place
        allowed = OF_PROMETHEUS.union(*(KNOWN[name].labels for name in names(expression)))
        assert labels(expression) <= allowed, place


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_a_rule_says_how_bad_it_is_and_what_to_do(rule):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Kvip[A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    text = " ".join(rule["annotations"].values())
    assert names(text) <= set(KNOWN)
    used = set(re.findall(r"\$labels\.([a-z_]+)", text))
    assert used <= OF_PROMETHEUS.union(*(KNOWN[name].labels for name in names(rule["expr"])))


def test_alerts_are_told_apart_by_name():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_panels_have_ids_of_their_own_do_not_overlap_and_ask_the_chosen_source():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}


def test_the_annotations_and_variables_of_the_dashboard_name_metrics_of_kvip():
    document = json.loads(DASHBOARD.read_text())
    assert names(json.dumps(document["annotations"]) + json.dumps(document["templating"])) <= set(KNOWN)


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool here (Debian package prometheus)")
@pytest.mark.parametrize("command", [["check", "rules", "deploy/alerts.yaml"], ["test", "rules", "tests/unit/deploy/rules.test.yaml"]])
def test_promtool_takes_the_rules_and_they_fire_as_they_should(command):
    done = subprocess.run([PROMTOOL, *command], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
