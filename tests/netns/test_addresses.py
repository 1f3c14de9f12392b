"""Batches against the real kernel: answers matched to their address, read-backs, dumps, and life after a lost answer."""

import errno
import importlib
import importlib.util
import socket
import time

import pytest

from kvip.core.model import MARK_PROTO
from kvip.errors import NetlinkError
from kvip.kernel import batches, codec
from kvip.kernel.batches import AddressOp, AddressSocket, DumpInterrupted, vip_address

pytestmark = pytest.mark.netns

V4 = [f"10.1.{n // 250}.{n % 250 + 1}" for n in range(300)]
V6 = [f"2001:db8::{n:x}" for n in range(1, 301)]
MIXED = [vip for pair in zip(V4, V6, strict=True) for vip in pair]
NO_NIC = 99_999


NAMES = ["kvip._rtnl_py", "kvip._rtnl"] if importlib.util.find_spec("kvip._rtnl") else ["kvip._rtnl_py"]


@pytest.fixture(params=NAMES, autouse=True)
def implementation(request, monkeypatch):
    """The socket works with each implementation that is installed."""
    module = importlib.import_module(request.param)
    for name in ("encode_changes", "receive", "match"):
        monkeypatch.setattr(batches, name, getattr(module, name))


@pytest.fixture
def sock():
    with AddressSocket() as opened:
        yield opened


def operations(kind, vips, index, *, valid_s=60):
    return [AddressOp(kind=kind, address=vip_address(vip, index, valid_s=valid_s)) for vip in vips]


def one(sock, kind, vip, index, *, valid_s=60):
    (result,) = sock.apply(operations(kind, [vip], index, valid_s=valid_s))
    return result


def on(sock, index):
    return {address.ip: address for address in sock.dump() if address.index == index}


def test_300_of_each_family_are_added_refreshed_and_deleted_with_read_back(sock, veth):
    added = sock.apply(operations("add", MIXED, veth.index))
    assert [(r.errno, r.seen.ip, r.seen.proto, r.seen.preferred_s) for r in added] == [(0, vip, MARK_PROTO, 0) for vip in MIXED]
    assert set(on(sock, veth.index)) == set(MIXED)
    replaced = sock.apply(operations("replace", MIXED, veth.index, valid_s=600))
    assert {r.errno for r in replaced} == {0}
    assert all(598 <= r.seen.valid_s <= 600 for r in replaced)
    deleted = sock.apply(operations("delete", MIXED, veth.index))
    assert [(r.errno, r.seen, r.gone) for r in deleted] == [(0, None, True)] * len(MIXED)
    assert on(sock, veth.index) == {}


def test_errors_come_back_at_their_own_address(sock, veth):
    there = MIXED[::7]
    sock.apply(operations("add", there, veth.index))
    results = sock.apply(operations("add", MIXED, veth.index))
    assert [r.operation.address.ip for r in results] == MIXED
    assert [r.errno for r in results] == [errno.EEXIST if vip in there else 0 for vip in MIXED]
    assert all(r.seen is not None and r.seen.ip == r.operation.address.ip for r in results)
    assert {r.ext_ack.split(":")[1].strip().lower() for r in results if r.errno} == {"address already assigned"}

    sock.apply(operations("delete", there, veth.index))
    results = sock.apply(operations("delete", MIXED, veth.index))
    assert [r.errno for r in results] == [errno.EADDRNOTAVAIL if vip in there else 0 for vip in MIXED]
    assert all(r.gone for r in results)


@pytest.mark.parametrize("vip", ["10.1.0.1", "2001:db8::1"])
@pytest.mark.parametrize("kind", ["add", "delete"])
def test_an_unknown_nic_is_enodev_and_nothing_seen_though_another_nic_has_the_address(sock, veth, vip, kind):
    assert one(sock, "add", vip, veth.index).errno == 0
    result = one(sock, kind, vip, NO_NIC)
    assert (result.errno, result.seen, result.gone) == (errno.ENODEV, None, True)
    assert result.ext_ack
    assert vip in on(sock, veth.index)


def test_one_bad_operation_among_good_ones_spoils_nothing(sock, veth):
    batch = operations("add", V4[:150], veth.index) + operations("add", ["10.9.9.9"], NO_NIC) + operations("add", V4[150:], veth.index)
    results = sock.apply(batch)
    assert [i for i, r in enumerate(results) if r.errno] == [150]
    assert set(on(sock, veth.index)) == set(V4)


def test_a_dump_shows_mark_lifetimes_and_flags(sock, veth):
    sock.apply(operations("add", ["10.1.0.1", "2001:db8::1"], veth.index, valid_s=120))
    four, six = on(sock, veth.index)["10.1.0.1"], on(sock, veth.index)["2001:db8::1"]
    for address, length in ((four, 32), (six, 128)):
        assert address.marked
        assert address.prefix_len == length
        assert address.scope == 0
        assert 118 <= address.valid_s <= 120
        assert address.preferred_s == 0
        assert address.flags & codec.IFA_F_NOPREFIXROUTE
    assert six.flags & codec.IFA_F_NODAD
    assert not six.flags & 0x40, "tentative: duplicate address detection runs"
    assert four.label == veth.name


def test_an_endless_address_reads_back_as_endless(sock, veth):
    for vip in ("10.1.0.1", "2001:db8::1"):
        result = one(sock, "add", vip, veth.index, valid_s=None)
        assert (result.errno, result.seen.valid_s) == (0, None)


def test_addresses_of_others_decode_unmarked_with_label_and_peer(sock, veth, run_ip):
    run_ip("addr", "add", "192.0.2.1/24", "dev", veth.name, "label", f"{veth.name}:web")
    run_ip("addr", "add", "192.0.2.65", "peer", "198.51.100.1/32", "dev", veth.name)
    run_ip("addr", "add", "2001:db8:7::1", "peer", "2001:db8:8::1/64", "dev", veth.name, "nodad")
    found = on(sock, veth.index)
    assert not any(address.marked for address in found.values())
    assert (found["192.0.2.1"].label, found["192.0.2.1"].prefix_len, found["192.0.2.1"].valid_s) == (f"{veth.name}:web", 24, None)
    assert (found["192.0.2.65"].peer, found["192.0.2.1"].peer) == ("198.51.100.1", "")
    assert (found["2001:db8:7::1"].peer, found["2001:db8:7::1"].prefix_len) == ("2001:db8:8::1", 64)


@pytest.mark.parametrize("vip", ["10.1.0.1", "2001:db8::1"])
def test_adding_over_an_address_of_others_shows_it_unmarked_and_leaves_it(sock, veth, run_ip, vip):
    run_ip("addr", "add", f"{vip}/{128 if ':' in vip else 32}", "dev", veth.name)
    result = one(sock, "add", vip, veth.index)
    assert result.errno == errno.EEXIST
    assert result.seen is not None
    assert not result.seen.marked
    assert on(sock, veth.index)[vip].valid_s is None


@pytest.mark.parametrize("vip", ["10.1.0.1", "2001:db8::1"])
def test_replacing_an_address_of_others_takes_it_over_so_it_is_for_marked_ones_only(sock, veth, run_ip, vip):
    run_ip("addr", "add", f"{vip}/{128 if ':' in vip else 32}", "dev", veth.name)
    seen = one(sock, "replace", vip, veth.index).seen
    assert (seen.marked, seen.valid_s) == (True, 60)


def test_what_succeeds_is_read_back_without_a_dump(sock, veth, monkeypatch):
    monkeypatch.setattr(sock, "dump", lambda: pytest.fail("dumped"))
    for kind, there in (("add", True), ("replace", True), ("delete", False)):
        assert [r.seen is not None for r in sock.apply(operations(kind, MIXED[:20], veth.index))] == [there] * 20


def test_a_delete_that_does_not_fit_the_prefix_shows_what_stays(sock, veth, run_ip):
    run_ip("addr", "add", "2001:db8::1/64", "dev", veth.name, "nodad")
    result = one(sock, "delete", "2001:db8::1", veth.index)
    assert (result.errno, result.seen.prefix_len, result.gone) == (errno.EADDRNOTAVAIL, 64, False)


def test_nothing_to_do_is_nothing_done(sock, veth):
    assert sock.apply([]) == []
    assert on(sock, veth.index) == {}


def test_lost_answers_raise_and_the_next_call_works(veth):
    # The kernel takes no less than 2 KiB or so of receive buffer: the answers to one slice of 100 do not fit.
    with AddressSocket(receive_buffer=1) as small, AddressSocket() as large:
        with pytest.raises(NetlinkError) as caught:
            small.apply(operations("add", V4, veth.index))
        assert caught.value.errno == errno.ENOBUFS
        for _ in range(3):
            again = one(small, "replace", "10.2.0.1", veth.index)
            assert (again.errno, again.seen.ip) == (0, "10.2.0.1")
        assert "10.2.0.1" in on(large, veth.index)


def test_answers_to_an_abandoned_request_are_not_taken_for_new_ones(sock, veth):
    stale = codec.encode_change("delete", vip_address("10.3.0.1", NO_NIC, valid_s=60), sequence=0xFFFF)
    sock._socket.send(stale + codec.encode_dump(sequence=0xFFFE))
    results = sock.apply(operations("add", V4[:20], veth.index))
    assert {r.errno for r in results} == {0}
    assert set(on(sock, veth.index)) == set(V4[:20])


class Meddled:
    """A socket whose owner's first reads of each dump are preceded by somebody else's change of the addresses."""

    def __init__(self, real, index, *, changes):
        self._real, self._index, self._left = real, index, changes
        self._other = AddressSocket()

    def recvfrom_into(self, *arguments):
        answer = self._real.recvfrom_into(*arguments)
        if self._left:
            self._left -= 1
            self._other.apply(operations("replace", [f"10.200.0.{self._left % 200 + 1}"], self._index))
        return answer

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.mark.parametrize(("changes", "succeeds"), [(1, True), (10**6, False)])
def test_an_interrupted_dump_is_repeated_and_never_an_answer(sock, veth, changes, succeeds):
    # More addresses than fit one datagram, so that the kernel has to resume the dump after the change.
    sock.apply(operations("add", [f"10.1.{n // 250}.{n % 250 + 1}" for n in range(2000)], veth.index))
    meddled = Meddled(sock._socket, veth.index, changes=changes)
    real, sock._socket = sock._socket, meddled
    try:
        if succeeds:
            assert len(on(sock, veth.index)) == 2001
        else:
            with pytest.raises(DumpInterrupted) as caught:
                sock.dump()
            assert isinstance(caught.value, NetlinkError)
    finally:
        sock._socket = real
        meddled._other.close()
    assert len(on(sock, veth.index)) >= 2001


def test_silence_is_bounded(sock, monkeypatch):
    monkeypatch.setattr(batches, "_REPLY_WAIT_MS", 10)
    monkeypatch.setattr(codec, "encode_dump", lambda *, sequence: codec._HEAD.pack(16, codec.NLMSG_NOOP, 0, sequence, 0))
    started = time.monotonic()
    with pytest.raises(NetlinkError) as caught:
        sock.dump()
    assert caught.value.errno == errno.ETIMEDOUT
    assert time.monotonic() - started < 1


def test_a_closed_socket_is_an_error_of_ours():
    closed = AddressSocket()
    closed.close()
    closed.close()
    with pytest.raises(NetlinkError):
        closed.dump()


def test_other_processes_cannot_answer_for_the_kernel(sock, veth):
    address = sock._socket.getsockname()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as other:
        other.bind((0, 0))
        # What the next operation's acknowledgement would look like, with EPERM.
        forged = codec._HEAD.pack(36, codec.NLMSG_ERROR, 0x100, sock._sequence + 1, 0) + codec._ERROR.pack(-1) + bytes(16)
        other.sendto(forged, address)
        assert one(sock, "add", "10.1.0.1", veth.index).errno == 0
