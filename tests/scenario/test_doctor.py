"""`kvip doctor` beside a real API server: the rights that it misses are those that the server's own RBAC does not grant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvip.settings import Settings
from lab.apihost import ApiHost
from lab.lan import Lan
from lab.realapi import RealApi

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def rights(api: ApiHost) -> Iterator[ApiHost]:
    """The API server, where it has rights to give; those of the default settings again afterwards."""
    if not isinstance(api, RealApi):
        pytest.skip("the embedded API server lets everybody do everything")
    yield api
    api.give_rights(Settings())


def doctor(lan: Lan, api: ApiHost, *arguments: str) -> dict[str, Any]:
    """The findings by check, and what was seen, as an administrator of n1 reads them with the daemon's own credentials."""
    command = [sys.executable, "-m", "kvip", "doctor", "--json", "--interface", "eth0", "--kubeconfig", str(api.kvip_kubeconfig)]
    done = subprocess.run(
        lan.ns("n1").command(*command, "--node-name", "n1", *arguments),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    seen = {row["subject"]: row["state"] for row in document["seen"]}
    return {"found": {found["check"]: found for found in document["findings"]}, "seen": seen, "unseen": document["unseen"]}


@pytest.mark.parametrize("flags", [[], ["--election", "per-service"], ["--service-namespace", "default"], ["--vip-host-annotation"]])
def test_what_the_manifest_grants_is_enough(lan: Lan, rights: ApiHost, flags: list[str]) -> None:
    from kvip import config

    rights.give_rights(config.load(flags, {}, hostname="n1").settings)
    report = doctor(lan, rights, *flags)
    assert "rights-missing" not in report["found"], report
    granted, _, needed = report["seen"]["rights"].partition(" that")[0].partition(" of ")
    assert granted == needed
    assert report["seen"]["API server"].endswith(", as kvip")


def test_rights_that_are_missing_are_named_and_no_others(lan: Lan, rights: ApiHost) -> None:
    rights.give_rights(Settings(disable_service_updates=True))
    found = doctor(lan, rights)["found"]["rights-missing"]
    assert found["what"] == "'kvip' may not: patch services/status in all namespaces"


def test_what_the_daemons_own_rights_do_not_show_is_said(lan: Lan, rights: ApiHost) -> None:
    assert {"what": "Pods on this node", "why": "403 Forbidden"} in doctor(lan, rights)["unseen"]
