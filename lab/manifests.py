"""Writes those files under deploy/ that kvip itself determines: the kustomize base, the schema of the chart's values, the chart's alerts.

In: `kvip manifest`, the schema of the settings, deploy/alerts.yaml (Helm reads no file outside a chart). Out: `files()`, text by path;
`python -m lab.manifests` writes them. The templates of the chart are written by hand: a template that prints templates would be harder to
read than the test that compares what both print.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from kvip.cli import manifest
from kvip.options import OPTIONS, Option

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
CHART = DEPLOY / "helm" / "kvip"
NOT_IN_CHART = frozenset({"node-name", "namespace", "kubeconfig"})
"""Settings that the chart gives, or that a pod with a service account has no use for."""

_TYPES = {"text": "string", "choice": "string", "switch": "boolean", "number": "number", "integer": "integer"}


def files() -> dict[Path, str]:
    """The text of each file, as it must be now."""
    return {
        DEPLOY / "base" / "rbac.yaml": _printed("rbac"),
        DEPLOY / "base" / "daemonset.yaml": _printed("daemonset"),
        CHART / "values.schema.json": json.dumps(_values_schema(), indent=2) + "\n",
        CHART / "alerts.yaml": (DEPLOY / "alerts.yaml").read_text(),
    }


def main() -> None:
    """Write each file."""
    for path, text in files().items():
        path.write_text(text)
        print(path.relative_to(DEPLOY.parent))


def _printed(*argv: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = manifest.main(argv)
    assert code == 0
    return out.getvalue()


def _values_schema() -> dict[str, Any]:
    """JSON schema of values.yaml. Ranges and combinations are kvip's to check: it names the setting, the value and the source."""
    image: dict[str, Any] = {
        "repository": {"type": "string", "minLength": 1},
        "tag": {"type": "string"},
        "pullPolicy": {"type": "string", "enum": ["", "Always", "IfNotPresent", "Never"]},
    }
    text = {"type": "string"}
    texts: dict[str, Any] = {"type": "object", "additionalProperties": text}
    objects: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
    switch = {"type": "boolean"}
    settings = {option.name: _setting_schema(option) for option in OPTIONS if option.name not in NOT_IN_CHART}
    properties = {
        "image": _closed(image),
        "imagePullSecrets": objects,
        "settings": _closed(settings),
        "nodeSelector": texts,
        "tolerations": objects,
        "priorityClassName": text,
        "podAnnotations": texts,
        "resources": {"type": "object"},
        "serviceMonitor": _closed({"enabled": switch, "interval": text, "labels": texts}),
        "prometheusRule": _closed({"enabled": switch, "labels": texts}),
        "networkPolicy": _closed({"enabled": switch, "from": objects}),
        "global": {"type": "object", "description": "Helm's own, for charts that contain this one."},
    }
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart kvip", **_closed(properties)}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _setting_schema(option: Option) -> dict[str, Any]:
    choices = {"enum": [choice for choice in option.choices if choice]} if option.choices else {}
    return {"type": _TYPES[option.kind], **choices, "description": option.help}


if __name__ == "__main__":
    main()
