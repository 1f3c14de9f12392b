"""Packed addresses: what `ipaddress` says, however many there were."""

import ipaddress

from kvip.core import model
from kvip.core.model import Vip, packed


def test_packed_is_the_network_form_of_both_families():
    for text in ("192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"):
        assert packed(Vip(text)) == ipaddress.ip_address(text).packed


def test_what_is_kept_of_them_stays_bounded(monkeypatch):
    monkeypatch.setattr(model, "_MOST_PACKED", 10)
    model._packed.clear()
    for number in range(100):
        assert packed(Vip(f"192.0.2.{number}")) == bytes([192, 0, 2, number])
        assert len(model._packed) <= 10
