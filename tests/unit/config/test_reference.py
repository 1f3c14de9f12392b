"""The reference of settings names everything, and is current."""

from pathlib import Path

from kvip.aliases import FOREIGN
from kvip.kube_vip_flags import BY_VARIABLE, FLAGS
from kvip.options import OPTIONS
from kvip.reference import reference_markdown

REFERENCE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_reference_names_every_setting_and_every_variable():
    text = reference_markdown()
    for option in OPTIONS:
        assert f"| `{option.flag}` | `{option.variable}` |" in text
        assert all(f"`{alias}`" in text for alias in option.alias)
    assert all(f"| `{foreign.name}` |" in text for foreign in FOREIGN)
    assert all(f"`--{flag}`" in text for flag in FLAGS)
    assert not BY_VARIABLE.keys() - {foreign.name for foreign in FOREIGN} - {alias for option in OPTIONS for alias in option.alias}


def test_reference_is_current():
    command = "python -c 'from kvip.reference import *; print(reference_markdown(), end=\"\")' > docs/configuration.md"
    assert REFERENCE.read_text() == reference_markdown(), f"out of date; run: {command}"
