"""What the kernel's NICs, read again and again, leave in memory: no more than the daemon lets pile up."""

import gc

import pytest

from kvip.daemon.app import COLLECT
from kvip.daemon.nic import read_all_links
from kvip.kernel.routes import default_gateways

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
READINGS = 150


@pytest.fixture
def daemons_collector():
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(*COLLECT)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("daemons_collector", "veth")
async def test_nics_and_routes_read_without_end_leave_a_bounded_memory():
    await read_all_links()
    before = len(gc.get_objects())
    most = 0
    for _ in range(READINGS):
        await read_all_links()
        await default_gateways()
        most = max(most, len(gc.get_objects()) - before)
    assert most < 15_000
