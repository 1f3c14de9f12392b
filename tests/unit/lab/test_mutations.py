"""The mutants are made of text that stands in the sources; a mutant that cannot be made notices nothing."""

import pathlib

import pytest

from lab.mutations import MUTANTS

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.rule}: {mutant.what}")
def test_what_a_mutant_replaces_stands_in_its_file_exactly_once(mutant):
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    for old, new in ((mutant.old, mutant.new), *mutant.more):
        assert text.count(old) == 1
        text = text.replace(old, new)
