"""What one VIP more makes the election do hardly grows with the number of VIPs: counted in calls, so that the machine plays no part."""

import asyncio
import sys

from kvip.core.model import Vip
from tests.unit.daemon.claims_bench import Bench, Hands

CREATES = 5
FEW, MANY = 640, 2_560
"""All 64 records are there with few, too; what grows is the one record that changes."""
SETTLED_S = 12.0


def only_these(hands, vips):
    """As `Hands.won`, looking at nothing but what changed."""
    for vip in vips:
        allowed = hands.loop.permit(vip) is not None and hands.able(vip)
        (hands.bound.add if allowed else hands.bound.discard)(vip)
    hands.loop.demand_changed(vips)


def calls_per_create(held, monkeypatch):
    """Function calls from the demand for one VIP to its permit, with so many held."""
    monkeypatch.setattr(Hands, "won", only_these)
    bench, count = Bench(), 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    async def story():
        node = bench.start("n1", *(Vip(f"10.0.{number >> 8}.{number & 255}") for number in range(held)))
        await asyncio.sleep(SETTLED_S)
        assert len(node.hands.bound) == held
        sys.setprofile(note)
        try:
            for number in range(CREATES):
                vip = Vip(f"10.9.0.{number}")
                node.hands.wanted.add(vip)
                node.loop.demand_changed([vip])
                await asyncio.sleep(0.02)
                assert vip in node.hands.bound
        finally:
            sys.setprofile(None)

    bench.play(story)
    return count / CREATES


def test_one_vip_more_makes_about_as_many_calls_with_many_vips_as_with_few(monkeypatch):
    few, many = calls_per_create(FEW, monkeypatch), calls_per_create(MANY, monkeypatch)
    assert many <= few * 1.06, f"{few:.0f} calls with {FEW} VIPs, {many:.0f} with {MANY}"
