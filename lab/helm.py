"""Renders the Helm chart of deploy/helm/kvip.

In: values, flags. Out: what `helm template` prints. Helm is the one that `make helm` builds, else the one on PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import msgspec

from lab.manifests import CHART
from lab.netns import LabError
from lab.realapi import assets_dir

NO_HELM = "no helm: `make helm` builds it"
TIMEOUT_S = 30.0


def find_helm() -> str | None:
    """The path of helm; None where there is none."""
    built = assets_dir() / "helm"
    return str(built) if os.access(built, os.X_OK) else shutil.which("helm")


def helm(*args: str, values: dict[str, Any] | None = None) -> str:
    """What a command of helm printed; `values` is the values file. Raises LabError with its words."""
    program = find_helm()
    if program is None:
        raise LabError(NO_HELM)
    argv = [program, *args, *(["--values", "-"] if values is not None else [])]
    given = msgspec.json.encode(values or {}).decode()  # JSON is YAML
    brief = {**os.environ, "GOGC": "off"}  # Go's garbage collector is a quarter of the time of so short a process
    done = subprocess.run(argv, input=given, env=brief, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(args)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def template(values: dict[str, Any] | None = None, *, namespace: str = "kube-system") -> str:
    """The chart's objects as YAML, as a release `kvip` in that namespace."""
    return helm("template", "kvip", str(CHART), "--namespace", namespace, values=values or {})
