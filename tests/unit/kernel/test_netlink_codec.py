"""The bytes of address messages: equal to pyroute2's, back to the same `Address`, and no surprise from malformed ones."""

import ipaddress
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from kvip.core.model import MARK_PROTO, Address, canonical, is_ipv6
from kvip.errors import KvipError
from kvip.kernel import codec
from kvip.kernel.batches import AddressOp, OpResult, vip_address
from kvip.kernel.links import decode_link

IPS = (st.ip_addresses(v=4) | st.ip_addresses(v=6)).map(canonical)
LIFETIMES = st.none() | st.integers(0, 0xFFFFFFFE)
COPIED = settings(max_examples=40)
"""Where values are only copied, what differs is the family and which attributes there are: few examples have met each."""


@st.composite
def addresses(draw, *, with_peer=True):
    ip = draw(IPS)
    six = is_ipv6(ip)
    peer = draw(st.just("") | st.ip_addresses(v=6 if six else 4).map(canonical)) if with_peer else ""
    return Address(
        ip=ip,
        prefix_len=draw(st.integers(0, 128 if six else 32)),
        index=draw(st.integers(1, 2**31 - 1)),
        proto=draw(st.integers(0, 255)),
        flags=draw(st.integers(0, 0xFFFFFFFF)),
        scope=draw(st.sampled_from([0, 200, 253, 254])),
        label="" if six else draw(st.text(alphabet="abcdefgh0123456789:.-", max_size=15)),
        valid_s=draw(LIFETIMES),
        preferred_s=draw(LIFETIMES),
        peer="" if peer == ip else peer,
    )


def by_pyroute2(kind, address, sequence, *, ack, echo):
    """The same request as pyroute2 encodes it, attributes in the order that kvip sends them."""
    message = ifaddrmsg()
    family = socket.AF_INET6 if is_ipv6(address.ip) else socket.AF_INET
    message["family"], message["prefixlen"], message["index"] = family, address.prefix_len, address.index
    message["attrs"] = [("IFA_LOCAL", address.ip), ("IFA_ADDRESS", address.peer or address.ip)]
    if kind != "delete":
        message["flags"], message["scope"] = address.flags & 0xFF, address.scope
        forever = 0xFFFFFFFF
        times = {
            "ifa_preferred": forever if address.preferred_s is None else address.preferred_s,
            "ifa_valid": forever if address.valid_s is None else address.valid_s,
            "cstamp": 0,
            "tstamp": 0,
        }
        message["attrs"] += [("IFA_FLAGS", address.flags), ("IFA_CACHEINFO", times)]
        if address.proto:
            message["attrs"].append(("IFA_PROTO", address.proto))
        if address.label:
            message["attrs"].append(("IFA_LABEL", address.label))
    kinds = {"add": (20, 0x601), "replace": (20, 0x501), "delete": (21, 0x001)}
    message["header"]["type"], flags = kinds[kind]
    message["header"]["flags"] = flags | (0x04 if ack else 0) | (0x08 if echo else 0)
    message["header"]["sequence_number"], message["header"]["pid"] = sequence, 0
    message.reset()
    message.encode()
    return bytes(message.data)


def only(data):
    (message,) = codec.messages(data)
    return message


@COPIED
@given(
    address=addresses(),
    kind=st.sampled_from(["add", "replace", "delete"]),
    sequence=st.integers(1, 2**32 - 1),
    ack=st.booleans(),
    echo=st.booleans(),
)
def test_requests_are_the_bytes_that_pyroute2_encodes(address, kind, sequence, ack, echo):
    found = codec.encode_change(kind, address, sequence=sequence, ack=ack, echo=echo)
    assert found == by_pyroute2(kind, address, sequence, ack=ack, echo=echo)


@COPIED
@given(address=addresses(), sequence=st.integers(1, 2**32 - 1))
def test_what_is_encoded_decodes_to_the_same_address(address, sequence):
    message = only(codec.encode_change("add", address, sequence=sequence))
    assert (message.type, message.sequence) == (codec.RTM_NEWADDR, sequence)
    assert codec.decode_address(message) == address


@COPIED
@given(address=addresses())
def test_a_get_names_address_and_nic_and_is_strict(address):
    data = codec.encode_get(address, sequence=9)
    parsed = ifaddrmsg(data)
    parsed.decode()
    assert parsed["header"]["type"] == 22
    assert parsed["header"]["flags"] == 1
    assert parsed["header"]["length"] == len(data)
    assert (parsed["prefixlen"], parsed["flags"], parsed["scope"], parsed["index"]) == (0, 0, 0, address.index)
    assert socket.inet_pton(parsed["family"], parsed.get_attr("IFA_ADDRESS")) == socket.inet_pton(parsed["family"], address.ip)
    assert len(parsed["attrs"]) == 1


@pytest.mark.parametrize("text", ["::ffff:192.0.2.1", "::192.0.2.1", "::", "2001:db8:0:1::", "1:0:0:2:0:0:0:3"])
def test_ipv6_text_is_the_canonical_key(text):
    ip = canonical(ipaddress.ip_address(text))
    decoded = codec.decode_address(only(codec.encode_change("add", vip_address(ip, 3, valid_s=60), sequence=1)))
    assert decoded is not None
    assert decoded.ip == ip


def test_a_vip_carries_mark_host_prefix_and_flags():
    four = vip_address("192.0.2.1", 3, valid_s=60, label="eth0:kvip")
    six = vip_address("2001:db8::1", 3, valid_s=None)
    assert (four.prefix_len, four.flags, four.proto, four.valid_s, four.preferred_s) == (32, 0x200, MARK_PROTO, 60, 0)
    assert (six.prefix_len, six.flags, six.proto, six.valid_s, six.preferred_s) == (128, 0x202, MARK_PROTO, None, 0)
    assert four.label == "eth0:kvip"
    assert four.marked
    assert four.scope == six.scope == 0


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def address_message(*attributes, family=socket.AF_INET, flags=0, kind=20):
    body = struct.pack("=BBBBI", family, 32, flags, 0, 7) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 5, 0) + body


def test_ifa_flags_overrides_the_eight_bits_of_the_header():
    with_both = address_message(attribute(2, b"\x0a\0\0\1"), attribute(8, struct.pack("=I", 0x280)), flags=0x80)
    header_only = address_message(attribute(2, b"\x0a\0\0\1"), flags=0x80)
    assert codec.decode_address(only(with_both)).flags == 0x280
    assert codec.decode_address(only(header_only)).flags == 0x80


def test_local_is_the_address_and_address_the_peer():
    decoded = codec.decode_address(only(address_message(attribute(1, b"\x0a\0\0\2"), attribute(2, b"\x0a\0\0\1"))))
    assert (decoded.ip, decoded.peer) == ("10.0.0.1", "10.0.0.2")


def test_an_unknown_family_is_no_address_and_no_error():
    assert codec.decode_address(only(address_message(attribute(2, b"\x08"), family=45))) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\0",
        struct.pack("=IHHII", 15, 20, 0, 1, 0),
        struct.pack("=IHHII", 17, 20, 0, 1, 0),
        struct.pack("=IHHII", 16, 20, 0, 1, 0),
        struct.pack("=IHHII", 18, 2, 0, 1, 0) + b"\0\0",
        struct.pack("=IHHII", 20, 2, 0x200, 1, 0) + bytes(4),
        address_message(),
        address_message(attribute(2, b"\x0a\0\0")),
        address_message(attribute(2, b"\x0a\0\0\1"), struct.pack("=HH", 3, 1)),
        address_message(attribute(2, b"\x0a\0\0\1"), struct.pack("=HH", 40, 1)),
        address_message(attribute(2, b"\x0a\0\0\1"), attribute(8, b"\0")),
    ],
)
def test_malformed_bytes_are_a_decode_error(data):
    with pytest.raises(codec.DecodeError):
        decode_all(data)


def decode_all(data):
    for message in codec.messages(data):
        if message.type in (codec.NLMSG_ERROR, codec.NLMSG_DONE):
            codec.decode_ack(message)
        else:
            codec.decode_address(message)


@st.composite
def damaged(draw):
    """A real message with some bytes changed and its end cut off."""
    data = bytearray(codec.encode_change("add", draw(addresses()), sequence=1))
    for position, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=6)):
        data[position] = value
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(data=damaged() | st.binary(max_size=200) | st.binary(min_size=4, max_size=120).map(lambda body: header_of(body) + body))
def test_no_bytes_make_the_decoder_raise_anything_but_its_own_error(data):
    assert issubclass(codec.DecodeError, KvipError)
    try:
        decode_all(data)
    except codec.DecodeError:
        pass


def header_of(body):
    """A fitting header in front of random bytes, so that the fuzz reaches the attributes."""
    kinds = (codec.NLMSG_ERROR, codec.NLMSG_DONE, codec.RTM_NEWADDR)
    return struct.pack("=IHHII", 16 + len(body), kinds[body[0] % 3], (body[1] & 3) << 8, 1, 0)


@given(body=st.binary(max_size=120))
def test_no_bytes_make_the_link_decoder_raise_anything_but_its_own_error(body):
    try:
        decode_link(struct.pack("=IHHII", 16 + len(body), codec.RTM_NEWLINK, 0, 1, 0) + body)
    except codec.DecodeError:
        pass


def _attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


ATTRIBUTES = st.recursive(
    st.binary(max_size=24),
    lambda inner: st.lists(st.builds(_attribute, st.sampled_from([*range(64), 0x8012, 0x4003]), inner), max_size=4).map(b"".join),
    max_leaves=12,
)


@given(
    kinds=st.lists(st.tuples(st.sampled_from([1, 3, 4, 5, 10, 18, 26, 37, 0x8012, *range(64)]), ATTRIBUTES), max_size=6),
    family=st.sampled_from([0, 7]),
)
def test_no_attributes_make_the_link_decoder_raise_anything_but_its_own_error(kinds, family):
    body = struct.pack("=BBHiII", family, 0, 1, 7, 1, 0) + b"".join(_attribute(kind, value) for kind, value in kinds)
    try:
        decode_link(struct.pack("=IHHII", 16 + len(body), codec.RTM_NEWLINK, 0, 1, 0) + body)
    except codec.DecodeError:
        pass


def error_message(code, *, flags=0, request=b"", text=b""):
    body = struct.pack("=i", code) + request + (attribute(1, text) if text else b"")
    return struct.pack("=IHHII", 16 + len(body), codec.NLMSG_ERROR, flags, 5, 0) + body


def test_an_acknowledgement_carries_errno_and_the_kernels_text():
    request = codec.encode_change("add", vip_address("192.0.2.1", 3, valid_s=60), sequence=5)
    capped = error_message(-17, flags=0x300, request=request[:16], text=b"ipv4: Address already assigned\0")
    quoted = error_message(-17, flags=0x200, request=request, text=b"ipv4: Address already assigned\0")
    for data in (capped, quoted):
        assert codec.decode_ack(only(data)) == codec.Ack(17, "ipv4: Address already assigned")
    assert codec.decode_ack(only(error_message(0, flags=0x100, request=request[:16]))) == codec.Ack(0, "")


def test_the_end_of_a_dump_carries_its_errno():
    done = struct.pack("=IHHIIi", 20, codec.NLMSG_DONE, 2, 5, 0, -22)
    assert codec.decode_ack(only(done)) == codec.Ack(22, "")
    assert codec.decode_ack(only(struct.pack("=IHHII", 16, codec.NLMSG_DONE, 2, 5, 0))) == codec.Ack(0, "")


def test_messages_of_one_datagram_are_separated_with_padding():
    datagram = error_message(0) + address_message(attribute(2, b"\x0a\0\0\1"), attribute(11, b"\x6b"))
    assert [message.type for message in codec.messages(datagram)] == [codec.NLMSG_ERROR, codec.RTM_NEWADDR]


@pytest.mark.parametrize(("number", "gone"), [(0, True), (99, True), (19, True), (1, False)])
def test_gone_needs_the_kernels_word(number, gone):
    vip = vip_address("192.0.2.1", 3, valid_s=60)
    operation = AddressOp(kind="delete", address=vip)
    assert OpResult(operation=operation, errno=number, ext_ack="", seen=None).gone is gone
    assert OpResult(operation=operation, errno=number, ext_ack="", seen=vip).gone is False


def test_the_end_asks_for_an_acknowledgement_and_nothing_else():
    assert codec.encode_end(sequence=7) == struct.pack("=IHHII", 16, codec.NLMSG_NOOP, codec.NLM_F_REQUEST | codec.NLM_F_ACK, 7, 0)
