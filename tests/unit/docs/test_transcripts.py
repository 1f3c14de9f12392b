"""docs/transcripts.md is what the commands print, and docs/status.md has every field of their JSON."""

import re
from pathlib import Path

import msgspec
import pytest

from kvip.observe.bursts import BurstView, Refusal
from kvip.observe.cluster import ClusterView, ClusterVip, NodeView
from kvip.observe.explaining import Explanation, Step
from kvip.observe.state import Header, ServiceView, StateView, VipView
from lab import transcripts

ROOT = Path(__file__).resolve().parents[3]


def test_the_transcripts_are_those_that_the_code_prints():
    assert transcripts.PAGE.read_text() == transcripts.transcripts(), "run `make transcripts`, and look at what changed"


@pytest.mark.parametrize(
    "kind", [StateView, Header, VipView, ServiceView, ClusterView, NodeView, ClusterVip, Explanation, Step], ids=lambda kind: kind.__name__
)
def test_every_field_is_documented_and_every_documented_field_exists(kind):
    page = (ROOT / "docs" / "status.md").read_text()
    section = re.search(rf"^### `{kind.__name__}`.*?$(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    assert section, f"docs/status.md has no section for {kind.__name__}"
    assert re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE) == [field.name for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize("kind", [BurstView, Refusal], ids=lambda kind: kind.__name__)
def test_every_field_of_a_burst_is_documented(kind):
    section = re.search(rf"^### `{kind.__name__}`$(.*?)(?=^##|\Z)", (ROOT / "docs" / "announce.md").read_text(), re.DOTALL | re.MULTILINE)
    assert section
    assert re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE) == [field.name for field in msgspec.structs.fields(kind)]
