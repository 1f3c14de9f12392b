"""Address changes by the thousand: the extension builds the bytes, and files the answers, as its twin and the codec do."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import socket
from types import ModuleType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip import _rtnl_py
from kvip.core.model import Vip
from kvip.kernel import codec
from kvip.kernel.answers import AddressOp, Batch, encode_operation
from kvip.kernel.batches import vip_address
from tests.unit.kernel.kernel_answers import attribute, refused, shown

SLOT = 512
NAMES = ["kvip._rtnl_py", "kvip._rtnl"] if importlib.util.find_spec("kvip._rtnl") else ["kvip._rtnl_py"]


@pytest.fixture(params=NAMES)
def rtnl(request) -> ModuleType:
    """Each implementation that is installed."""
    return importlib.import_module(request.param)


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    try:
        return importlib.import_module("kvip._rtnl")
    except ImportError as problem:
        pytest.fail(f"kvip._rtnl cannot be imported ({problem}); build it: python setup.py build_ext --inplace")


IPS = st.sampled_from(["192.0.2.7", "192.0.2.8", "10.0.0.1", "2001:db8::7", "2001:db8::8", "::ffff:c000:207"])
ADDRESSES = st.builds(
    lambda ip, index, valid_s, label, peer, prefix: msgspec.structs.replace(
        vip_address(Vip(ip), index, valid_s=valid_s, label="" if ":" in ip else label),
        peer=peer if peer and (":" in ip) == (":" in peer) else "",
        prefix_len=prefix or (128 if ":" in ip else 32),
    ),
    ip=IPS,
    index=st.sampled_from([3, 3, 3, 4]),
    valid_s=st.sampled_from([60, 60, 600, None]),
    label=st.sampled_from(["", "", "eth0:kvip"]),
    peer=st.sampled_from(["", "", "", "198.51.100.1", "2001:db8:1::1"]),
    prefix=st.sampled_from([0, 0, 0, 24]),
)
OPERATIONS = st.lists(st.builds(AddressOp, kind=st.sampled_from(["add", "add", "replace", "delete"]), address=ADDRESSES), max_size=12)


@given(operations=OPERATIONS, start=st.integers(0, 3), sequence=st.integers(1, 2**32 - 100))
def test_requests_are_those_that_the_codec_encodes(extension, operations, start, sequence):
    stop = len(operations)
    expected = [encode_operation(one, sequence + 2 * number) for number, one in enumerate(operations[start:])]
    for made_by in (extension, _rtnl_py):
        assert made_by.encode_changes(operations, start, stop, sequence, encode_operation) == b"".join(expected)


@pytest.mark.parametrize("kind", ["add", "replace", "delete"])
@pytest.mark.parametrize("family", ["10.0.{}.{}", "2001:db8::{:x}:{:x}"])
def test_of_alike_changes_the_first_is_encoded(extension, kind, family):
    operations = [AddressOp(kind=kind, address=vip_address(Vip(family.format(1, n + 1)), 3, valid_s=60)) for n in range(200)]
    encoded = []
    extension.encode_changes(operations, 0, 200, 1, lambda one, number: encoded.append(one) or encode_operation(one, number))
    assert encoded == operations[:1]


def test_a_vip_that_is_no_address_is_the_codecs_error(rtnl):
    wrong = [AddressOp(kind="add", address=vip_address(Vip(ip), 3, valid_s=60)) for ip in ("192.0.2.7", "192.0.2.300")]
    with pytest.raises(OSError, match="illegal IP address"):
        rtnl.encode_changes(wrong, 0, 2, 1, encode_operation)


# What the kernel, or somebody else, may send while a batch waits: (operation, what, number beside its own, changes to the message).
ANSWERS = st.tuples(
    st.integers(0, 11),
    st.sampled_from(["shown", "shown", "shown", "deleted", "gone", "refused", "refused otherwise", "acknowledged", "end"]),
    st.sampled_from([0, 0, 0, 0, 1, -2, 40, 2**31]),
    st.fixed_dictionaries(
        {},
        optional={
            "stamps": st.sampled_from([(7, 7), (8, 9)]),
            "flags": st.sampled_from([0x220, 0x80]),
            "proto": st.sampled_from([0x6B, 0]),
            "name": st.sampled_from([b"eth0\0", b"a-long-nic-name\0"]),
            "more": st.sampled_from([(), (attribute(1, bytes(4)),), (attribute(9, bytes(4)),), (b"\x03\0\0\0",)]),
            "other": IPS,
            "index": st.sampled_from([3, 4]),
            "cut": st.integers(0, 120),
        },
    ),
)
FIRST = 101


def made(operations, answer):
    """The bytes of one datagram."""
    place, what, beside, changes = answer
    if not operations or what == "end":
        return refused(0, FIRST + 2 * len(operations) + beside)
    number = place % len(operations)
    wanted = operations[number].address
    cut, changed = changes.get("cut"), {key: changes[key] for key in ("stamps", "flags", "proto", "name", "more") if key in changes}
    sequence = (FIRST + 2 * number + (":" in wanted.ip) + beside) % 2**32
    if "other" in changes:
        wanted = msgspec.structs.replace(wanted, ip=changes["other"])
    if "index" in changes:
        wanted = msgspec.structs.replace(wanted, index=changes["index"])
    whole = {
        "shown": lambda: shown(wanted, sequence, **changed),
        "deleted": lambda: shown(wanted, sequence, kind=codec.RTM_DELADDR, **changed),
        "gone": lambda: refused(errno.EADDRNOTAVAIL, sequence, text=b"ipv6: address not found"),
        "refused": lambda: refused(errno.EEXIST, sequence, text=b"exists"),
        "refused otherwise": lambda: refused(errno.ENOBUFS, sequence),
        "acknowledged": lambda: refused(0, sequence),
    }[what]()
    return whole if cut is None else whole[:cut]


def filed(implementation, operations, datagrams):
    """The batch after these datagrams, and what was raised."""
    batch = Batch(operations)
    batch.begin(0, len(operations), FIRST, b"".join(encode_operation(one, FIRST + 2 * n) for n, one in enumerate(operations)))
    buffer = bytearray(b"".join(datagram.ljust(SLOT, b"\xaa") for datagram in datagrams))
    raised = ""
    try:
        implementation.match(batch, buffer, SLOT, [len(datagram) for datagram in datagrams])
    except (OSError, codec.DecodeError) as error:
        raised = f"{type(error).__name__} {error}"
    return [result.seen for result in batch.results()], bytes(batch.heard), batch.refused, batch.waiting, raised


@given(operations=OPERATIONS, answers=st.lists(ANSWERS, max_size=25))
def test_answers_of_any_make_and_order_are_filed_as_by_the_twin(extension, operations, answers):
    datagrams = [datagram for answer in answers if (datagram := made(operations, answer))]
    assert filed(extension, operations, datagrams) == filed(_rtnl_py, operations, datagrams)


@given(data=st.lists(st.binary(min_size=1, max_size=120), max_size=6))
def test_no_bytes_are_filed_otherwise_than_by_the_twin(extension, data):
    operations = [AddressOp(kind="add", address=vip_address(Vip("192.0.2.7"), 3, valid_s=60))]
    assert filed(extension, operations, data) == filed(_rtnl_py, operations, data)


@pytest.mark.parametrize("kind", ["add", "delete"])
@pytest.mark.parametrize("family", ["10.0.{}.{}", "2001:db8::{:x}:{:x}"])
def test_of_alike_answers_the_first_is_looked_into(extension, monkeypatch, kind, family):
    operations = [AddressOp(kind=kind, address=vip_address(Vip(family.format(1, n + 1)), 3, valid_s=60)) for n in range(100)]
    if kind == "add" or ":" not in family:
        message = codec.RTM_NEWADDR if kind == "add" else codec.RTM_DELADDR
        datagrams = [shown(one.address, FIRST + 2 * n + (":" in family), kind=message, stamps=(n, n)) for n, one in enumerate(operations)]
        looked_into = 1
    else:
        datagrams = [refused(errno.EADDRNOTAVAIL, FIRST + 2 * n + 1, text=b"not found") for n in range(100)]
        looked_into = 0
    calls = []
    plain = Batch.look_into
    monkeypatch.setattr(Batch, "look_into", lambda self, datagram: calls.append(datagram) or plain(self, datagram))
    seen, heard, *_ = filed(extension, operations, datagrams)
    assert len(calls) == looked_into
    assert heard == bytes([1]) * 100
    assert [address and address.ip for address in seen] == [one.address.ip if kind == "add" else None for one in operations]


def test_an_answer_that_was_cut_short_is_an_error_and_a_stale_one_is_dropped(rtnl):
    operations = [AddressOp(kind="add", address=vip_address(Vip("192.0.2.7"), 3, valid_s=60))]
    batch = Batch(operations)
    batch.begin(0, 1, FIRST, encode_operation(operations[0], FIRST))
    stale, own = shown(operations[0].address, 7), shown(operations[0].address, FIRST)
    rtnl.match(batch, bytearray(stale[:32]), 32, [len(stale)])
    with pytest.raises(OSError, match="cut short") as caught:
        rtnl.match(batch, bytearray(own[:32]), 32, [len(own)])
    assert caught.value.errno == errno.EMSGSIZE
    assert batch.unseen == [0]


@pytest.fixture
def netlink():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as opened:
        opened.bind((0, 0))
        opened.setblocking(False)
        yield opened


def test_what_waits_is_read_in_order_and_nothing_is_waited_for(rtnl, netlink):
    buffer = bytearray(4 * SLOT)
    with pytest.raises(BlockingIOError):
        rtnl.receive(netlink, buffer, SLOT)
    for number in (1, 2, 3):
        netlink.send(codec.encode_end(sequence=number))
    found = []
    while len(found) < 3:
        for place, length in enumerate(rtnl.receive(netlink, buffer, SLOT)):
            (message,) = codec.messages(bytes(buffer[place * SLOT : place * SLOT + length]))
            found.append((message.type, message.sequence))
    assert found == [(codec.NLMSG_ERROR, number) for number in (1, 2, 3)]
    with pytest.raises(BlockingIOError):
        rtnl.receive(netlink, buffer, SLOT)


def test_a_datagram_that_does_not_fit_tells_its_whole_length(rtnl, netlink):
    netlink.send(codec.encode_end(sequence=1))
    (length,) = rtnl.receive(netlink, bytearray(16), 16)
    assert length == 36


def test_what_another_process_sends_has_length_0(rtnl, netlink):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as other:
        other.bind((0, 0))
        try:
            other.sendto(refused(0, 1), netlink.getsockname())
        except PermissionError:
            pytest.skip("only root may send to another process's netlink socket")
    assert rtnl.receive(netlink, bytearray(SLOT), SLOT) == [0]


def test_a_closed_socket_is_an_oserror(rtnl, netlink):
    netlink.close()
    with pytest.raises(OSError) as caught:
        rtnl.receive(netlink, bytearray(SLOT), SLOT)
    assert caught.value.errno == errno.EBADF
