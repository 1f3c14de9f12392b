"""For tests that hold on asyncio's event loop and on uvloop's, and the events that they wait for."""

import asyncio

import pytest
import uvloop

from kvip.kernel.batches import AddressOp, AddressSocket, vip_address

LOOPS = [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]
both_loops = pytest.mark.parametrize("run", LOOPS)


def add_many(index, number):
    """Add VIPs without an await: no event of them is read meanwhile."""
    vips = [f"10.1.{n // 200}.{n % 200 + 1}" for n in range(number)]
    with AddressSocket() as sock:
        results = sock.apply([AddressOp(kind="add", address=vip_address(vip, index, valid_s=60)) for vip in vips])
    assert {result.errno for result in results} == {0}
    return vips
