"""The VIPs by which the fault table is judged."""

from kvip.core.election.records import number_of
from lab.scene import VIPS


def test_a_fault_of_the_table_strikes_both_families_because_one_record_holds_both():
    first, second, _ = VIPS
    assert ":" not in first
    assert ":" in second
    assert number_of(first, 64) == number_of(second, 64)
