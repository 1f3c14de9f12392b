"""What one event makes the daemon do does not grow with the number of VIPs: counted in calls, so that the machine's speed plays no part."""

import sys

import pytest

from benchmarks.fullhouse import Full

FEW, MANY = 50, 500


def calls_by_event(size):
    """Function calls, those of the interpreter's own functions included, per kind of event."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        return Full(size, meter=lambda: count).measure()
    finally:
        sys.setprofile(None)


@pytest.fixture(scope="module")
def costs():
    return calls_by_event(FEW), calls_by_event(MANY)


@pytest.mark.parametrize("event", ["one Service changed", "one EndpointSlice changed", "one Service deleted", "one Service created"])
def test_one_event_makes_as_many_calls_with_many_vips_as_with_few(costs, event):
    few, many = (cost[event] for cost in costs)
    assert many <= few * 1.2, f"{few / 1e3:.0f} calls with {FEW} VIPs, {many / 1e3:.0f} with {MANY}"


def test_work_on_everything_is_proportional_to_the_number_of_vips(costs):
    few, many = (cost["resync of everything"] for cost in costs)
    assert many <= few * MANY / FEW * 1.2
