"""The bytes of nf_tables messages: against captured ones, and there and back."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvip.kernel import nft
from kvip.kernel.codec import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, DecodeError, Message, messages


def sent(request: nft.Request) -> Message:
    """The request as the receiver of its bytes sees it."""
    (message,) = messages(nft.message(request, sequence=7))
    return message


def test_an_element_with_a_timeout_is_laid_out_in_network_byte_order():
    assert nft.element(bytes(4), timeout_ms=1500).hex(" ", 4) == ("1c000180 0c000180 08000100 00000000 0c000400 00000000 000005dc")


def test_a_map_element_goes_to_its_chain():
    assert nft.element(bytes([192, 0, 2, 7]), chain="silent").hex(" ", 4) == (
        "2c000180 0c000180 08000100 c0000207 1c000280 18000280 08000100 fffffffc 0b000200 73696c65 6e740000"
    )


def test_headers_name_subsystem_family_and_flags():
    message = sent(nft.change_elements("add", "netdev", "kvip", "alive", [nft.element(bytes(4))], exclusive=True))
    assert (message.type, message.sequence) == (10 << 8 | nft.NEWSETELEM, 7)
    assert message.flags == NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    assert bytes(message.data[message.start : message.start + 4]) == bytes([5, 0, 0, 0])
    assert nft.family_of(message) == "netdev"
    assert nft.table_of(message) == "kvip"
    assert nft.is_nftables(message)


def test_flushing_a_set_names_no_element():
    message = sent(nft.flush_elements("arp", "kvip", "alive_main"))
    assert nft.kind_of(message) == nft.DELSETELEM
    assert [kind for kind, _ in nft.attributes(message.data[message.start + 4 : message.end])] == [1, 2]


def test_a_batch_is_framed_and_numbered():
    first, *middle, last = messages(nft.batch([nft.delete_table("arp", "kvip"), nft.delete_table("inet", "kvip")], first_sequence=40))
    assert (first.type, last.type) == (0x10, 0x11)
    assert [message.sequence for message in (first, *middle, last)] == [40, 41, 42, 43]
    assert first.data[first.start : first.end] == struct.pack("!BBH", 0, 0, 10)


KEYS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
CHAINS = st.text(alphabet="abcxyz019_", max_size=31)


@settings(max_examples=40)  # Lists of up to 20: the bytes of keys and chains are only copied.
@given(st.lists(st.tuples(KEYS, CHAINS), max_size=20))
def test_elements_come_back_as_they_were_sent(elements: list[tuple[bytes, str]]):
    request = nft.change_elements("add", "inet", "kvip", "vips6", [nft.element(key, chain=chain) for key, chain in elements])
    assert [(found.key, found.chain) for found in nft.decode_elements(sent(request))] == elements


def test_five_hundred_elements_with_long_names_fit_one_attribute():
    element = nft.element(bytes(16), chain="on_" + "g" * 48 + "_99")
    assert len(element) * 500 < 65_536


@given(st.binary(max_size=200), st.sampled_from([0, 3, 6, 9, 12, 15]))
def test_any_bytes_are_decoded_or_refused(payload: bytes, kind: int):
    raw = struct.pack("=IHHII", 16 + len(payload), 10 << 8 | kind, 0, 1, 0) + payload
    (message,) = messages(raw)
    for decode in (nft.family_of, nft.table_of, nft.decode_elements, nft.decode_generation, nft.fingerprint, nft.chain_name):
        try:
            decode(message)
        except DecodeError:
            pass


def _object(kind: int, *attributes: tuple[int, bytes]) -> Message:
    body = struct.pack("!BBH", 3, 0, 0)
    for number, value in attributes:
        body += struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    (message,) = messages(struct.pack("=IHHII", 16 + len(body), 10 << 8 | kind, 0, 1, 0) + body)
    return message


@pytest.mark.parametrize(("kind", "counter"), [(0, 3), (3, 6), (3, 8), (9, 20)])
def test_k7_a_fingerprint_ignores_use_counts_only(kind: int, counter: int):
    name, handle = (1, b"kvip\0"), (4, bytes(8))
    same = nft.fingerprint(_object(kind, name, handle, (counter, bytes(4))))
    assert same == nft.fingerprint(_object(kind, name, handle, (counter, bytes([0, 0, 0, 9]))))
    assert same != nft.fingerprint(_object(kind, name, (4, bytes(7) + b"\1"), (counter, bytes(4))))
    assert same != nft.fingerprint(_object(kind, name, handle, (2, bytes(4))))


def test_a_generation_is_a_number():
    assert nft.decode_generation(_object(nft.NEWGEN, (1, bytes([0, 0, 1, 2])), (2, bytes(4)))) == 258
    assert nft.table_of(_object(nft.NEWGEN, (1, b"kvip"))) == ""
    with pytest.raises(DecodeError):
        nft.decode_generation(_object(nft.NEWGEN))
