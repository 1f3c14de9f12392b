"""What the kernel's answers say of each operation: done as wanted, refused, or not said."""

import errno

import pytest

from kvip.core.model import Vip
from kvip.kernel import codec
from kvip.kernel.answers import AddressOp, Batch, encode_operation
from kvip.kernel.batches import vip_address
from tests.unit.kernel.kernel_answers import refused, shown

FOUR, SIX = vip_address(Vip("192.0.2.7"), 3, valid_s=60), vip_address(Vip("2001:db8::7"), 3, valid_s=60)
OTHER = vip_address(Vip("192.0.2.8"), 3, valid_s=60)


def batch_of(*operations, first=11):
    batch = Batch([AddressOp(kind=kind, address=address) for kind, address in operations])
    batch.begin(0, len(operations), first, b"")
    return batch


def only_result(batch):
    (result,) = batch.results()
    return result


@pytest.mark.parametrize("kind", ["add", "replace", "delete"])
def test_a_change_asks_to_be_shown_and_not_to_be_acknowledged(kind):
    (echoed,) = codec.messages(encode_operation(AddressOp(kind=kind, address=FOUR), 5))
    assert (echoed.sequence, echoed.flags & codec.NLM_F_ECHO, echoed.flags & codec.NLM_F_ACK) == (5, codec.NLM_F_ECHO, 0)
    change, question = codec.messages(encode_operation(AddressOp(kind=kind, address=SIX), 5))
    assert (change.sequence, change.flags & (codec.NLM_F_ACK | codec.NLM_F_ECHO)) == (5, 0)
    assert (question.sequence, question.type) == (6, codec.RTM_GETADDR)


@pytest.mark.parametrize(("address", "number"), [(FOUR, 11), (SIX, 12)])
def test_what_is_shown_is_seen(address, number):
    batch = batch_of(("add", address))
    batch.look_into(shown(address, number))
    result = only_result(batch)
    assert (result.errno, result.seen.ip, result.seen.marked, batch.unseen) == (0, address.ip, True, [])


def test_silence_is_no_success():
    batch = batch_of(("add", FOUR), ("delete", FOUR), ("add", SIX))
    batch.look_into(refused(0, 17))
    assert not batch.waiting
    assert batch.unseen == [0, 1, 2]
    assert [result.seen for result in batch.results()] == [None] * 3


@pytest.mark.parametrize(
    "echo",
    [
        shown(OTHER, 11),
        shown(vip_address(FOUR.ip, 4, valid_s=60), 11),
        shown(FOUR, 9),
        shown(FOUR, 14),
        shown(FOUR, 0),
    ],
    ids=["another address", "another NIC", "before this slice", "behind this slice", "a notification"],
)
def test_an_answer_to_something_else_shows_nothing(echo):
    batch = batch_of(("add", FOUR))
    batch.look_into(echo)
    assert (batch.unseen, only_result(batch).seen) == ([0], None)


def test_a_refusal_is_at_its_operation_and_the_address_has_to_be_looked_for():
    batch = batch_of(("add", FOUR), ("add", OTHER))
    batch.look_into(refused(errno.EEXIST, 13, text=b"ipv4: Address already assigned"))
    batch.look_into(shown(FOUR, 11))
    assert [(result.errno, result.ext_ack) for result in batch.results()] == [(0, ""), (errno.EEXIST, "ipv4: Address already assigned")]
    assert batch.unseen == [1]


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.ENODEV])
def test_what_the_kernel_does_not_have_need_not_be_looked_for(code):
    batch = batch_of(("delete", FOUR))
    batch.look_into(refused(code, 11))
    assert batch.unseen == []
    assert only_result(batch).gone


def test_a_deleted_address_is_gone_by_its_echo_or_by_the_answer_to_the_question():
    batch = batch_of(("delete", FOUR), ("delete", SIX))
    batch.look_into(shown(FOUR, 11, kind=codec.RTM_DELADDR))
    batch.look_into(refused(errno.EADDRNOTAVAIL, 14, text=b"ipv6: address not found"))
    assert batch.unseen == []
    assert [result.gone for result in batch.results()] == [True, True]


def test_a_question_that_fails_otherwise_is_no_answer():
    batch = batch_of(("delete", SIX))
    batch.look_into(refused(errno.ENOBUFS, 12))
    assert batch.unseen == [0]


def test_an_ipv6_address_on_another_nic_is_not_on_this_one():
    batch = batch_of(("delete", SIX))
    batch.look_into(refused(errno.ENODEV, 11))
    batch.look_into(shown(vip_address(SIX.ip, 4, valid_s=60), 12))
    assert batch.unseen == []
    assert only_result(batch).gone


def test_the_end_is_its_own_number_only():
    batch = batch_of(("add", FOUR))
    for number in (11, 12, 14):
        batch.look_into(refused(0, number))
        assert batch.waiting
    batch.look_into(refused(0, 13))
    assert not batch.waiting
