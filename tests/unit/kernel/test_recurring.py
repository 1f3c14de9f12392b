"""Recurring address messages: whatever came before, each decodes to what the codec makes of it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.model import MARK_PROTO, is_ipv6, packed
from kvip.kernel import codec, recurring
from kvip.kernel.codec import DecodeError

NAMES = st.sampled_from(["eth0", "eth0:kvip", "e"])
IPS4 = st.sampled_from(["192.0.2.7", "192.0.2.8", "10.0.0.1"])
IPS6 = st.sampled_from(["2001:db8::7", "2001:db8::8", "::ffff:192.0.2.7"])
TIMES = st.tuples(st.sampled_from([0, 60, 0xFFFFFFFF]), st.sampled_from([0, 60, 600, 0xFFFFFFFF]), st.integers(0, 9), st.integers(0, 9))


@pytest.fixture(autouse=True)
def nothing_seen():
    recurring._kinds.clear()


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(ip, parts, *, prefix=32, index=2, flags=0x80, scope=0, kind=codec.RTM_NEWADDR):
    body = struct.pack("=BBBBI", 10 if is_ipv6(ip) else 2, prefix, flags, scope, index) + b"".join(parts)
    (found,) = codec.messages(struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body)
    return found


def as_the_kernel_does(ip, *, times=(0, 60, 1, 2), name="eth0", flags=0x2A0, proto=MARK_PROTO, **head):
    """inet_fill_ifaddr, inet6_fill_ifaddr."""
    cacheinfo, rest = attribute(6, struct.pack("=IIII", *times)), [attribute(8, struct.pack("=I", flags)), attribute(11, bytes([proto]))]
    if is_ipv6(ip):
        return message(ip, [attribute(1, packed(ip)), cacheinfo, *rest], **head)
    own = [attribute(1, packed(ip)), attribute(2, packed(ip)), attribute(3, name.encode() + b"\0")]
    return message(ip, [*own, *reversed(rest), cacheinfo], **head)


@given(st.lists(st.tuples(IPS4 | IPS6, TIMES, NAMES, st.sampled_from([0x80, 0x2A0]), st.integers(2, 3)), max_size=12))
def test_what_the_kernel_sends_decodes_as_ever_in_any_order(sent):
    for ip, times, name, flags, index in sent:
        one = as_the_kernel_does(ip, times=times, name=name, flags=flags, index=index)
        assert recurring.decode_address(one) == codec.decode_address(one)


VALUES = st.sampled_from([packed("192.0.2.7"), packed("192.0.2.8"), packed("2001:db8::7"), bytes(16), b"eth0\0", b"\x6b"])
ATTRIBUTES = st.tuples(st.sampled_from([1, 1, 2, 3, 6, 6, 8, 11, 99]), VALUES)


def outcome(decode, one):
    try:
        return decode(one)
    except DecodeError as error:
        return str(error)


@given(st.lists(st.tuples(IPS4 | IPS6, st.lists(ATTRIBUTES, max_size=6)), max_size=8))
def test_messages_of_any_make_decode_or_fail_as_ever(made):
    for ip, parts in made:
        one = message(ip, [attribute(kind, value) for kind, value in parts])
        assert outcome(recurring.decode_address, one) == outcome(codec.decode_address, one)


@given(st.sampled_from(["192.0.2.7", "2001:db8::7"]), st.booleans(), st.integers(0, 100))
def test_a_message_that_is_cut_short_fails_as_ever(ip, bare, left):
    """Also where the whole one came before."""
    whole = as_the_kernel_does(ip)
    if bare and is_ipv6(ip):
        whole = message(ip, [attribute(1, packed(ip)), attribute(6, struct.pack("=IIII", 0, 60, 1, 2))])
    recurring.decode_address(whole)
    cut = whole._replace(end=min(whole.end, whole.start + left))
    assert outcome(recurring.decode_address, cut) == outcome(codec.decode_address, cut)


def decoded_by_the_codec(messages, monkeypatch):
    decoded = []
    plain = codec.decode_address
    monkeypatch.setattr(codec, "decode_address", lambda one: decoded.append(one) or plain(one))
    found = [recurring.decode_address(one) for one in messages]
    monkeypatch.undo()
    assert len({address.ip for address in found}) == len(messages)
    return len(decoded)


@pytest.mark.parametrize("size", [2, 200])
@pytest.mark.parametrize("family", ["10.0.1.{}", "2001:db8::{:x}"])
def test_of_alike_addresses_the_first_is_decoded_by_the_codec(size, family, monkeypatch):
    messages = [as_the_kernel_does(family.format(number + 1), times=(0, number, 7, 7)) for number in range(size)]
    assert decoded_by_the_codec(messages, monkeypatch) == 1


def test_kinds_that_change_all_the_time_take_no_more_room():
    for index in range(1, 2_000):
        recurring.decode_address(as_the_kernel_does("192.0.2.7", index=index))
    assert len(recurring._kinds) <= recurring.MOST_KINDS
