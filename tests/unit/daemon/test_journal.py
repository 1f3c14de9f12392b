"""The journal: what is written comes back; what is torn, foreign or unwritable never stops anything."""

import asyncio
import logging

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvip import metrics
from kvip.cli.known_vips import from_journal
from kvip.core.desired import Wish
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import Incarnation, ServiceKey, Uid, Vip
from kvip.daemon import journal as journals
from kvip.daemon.journal import FILE_NAME, Journal, JournalWriter, boot_id, document, is_predecessors, line, load
from kvip.errors import ConfigError

INCARNATION = Incarnation("n1_" + "0" * 32)


def journal(count=1):
    claimant = Claimant(uid=Uid("u1"), service=ServiceKey("ns/a"), generation=3, since="2026-01-01T00:00:00+00:00")
    claims = {Vip(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"): (claimant,) for n in range(count)}
    return Journal(boot_id="boot", node="n1", incarnation=INCARNATION, claims=claims)


def save(directory, whole):
    journals.save(directory, document(whole, [line(vip, claimants) for vip, claimants in whole.claims.items()]))


def claim(ledger, *vips):
    wish = Wish(uid=Uid("u1"), key=ServiceKey("ns/a"), addresses=tuple(Vip(vip) for vip in vips))
    ledger.claim(wish, since="2026-01-01T00:00:00+00:00")


def failures():
    return metrics.registry.get_sample_value("kvip_journal_failures_total")


@pytest.mark.parametrize("count", [0, 1, 20_000])
def test_what_is_saved_is_loaded(tmp_path, count):
    save(tmp_path / "made" / "here", journal(count))
    assert load(tmp_path / "made" / "here") == journal(count)
    assert [path.name for path in (tmp_path / "made" / "here").iterdir()] == [FILE_NAME]


def test_no_journal_is_no_failure(tmp_path, caplog):
    before = failures()
    assert load(tmp_path) is None
    assert load(tmp_path / "absent") is None
    assert failures() == before
    assert not caplog.records


GOOD = msgspec.json.encode(journal())
UNUSABLE = {
    "empty": b"",
    "torn": GOOD[: len(GOOD) // 2],
    "zeros": b"\0" * 4096,
    "not UTF-8": b'{"boot_id": "\xff\xfe"}',
    "another program's": b'{"hello": "world"}',
    "a list": b"[1, 2]",
    "wrong type": b'{"format": 1, "boot_id": 1, "node": "n1", "incarnation": "x"}',
    "a format that never was": GOOD.replace(b'"format":1', b'"format":0'),
    "without a format": GOOD.replace(b'"format":1,', b""),
    "two documents": GOOD + GOOD,
    "deeply nested": b'{"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("data", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_journal_is_set_aside_with_a_warning(tmp_path, caplog, data):
    assert data != GOOD
    path = tmp_path / FILE_NAME
    path.write_bytes(data)
    before = failures()
    assert load(tmp_path) is None
    assert not path.exists()
    assert path.with_suffix(".json.bad").read_bytes() == data
    assert failures() == before + 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert load(tmp_path) is None
    save(tmp_path, journal())
    assert load(tmp_path) == journal()


NEWER = {
    "which adds": GOOD.replace(b'"format":1', b'"format":2,"leases":{}'),
    "of another form": b'{"format": 2, "boot": "boot", "claims": [["192.0.2.7", "u1"]]}',
}


@pytest.mark.parametrize("data", NEWER.values(), ids=NEWER)
def test_a_newer_journal_is_refused_aloud_and_kept(tmp_path, caplog, data):
    path = tmp_path / FILE_NAME
    path.write_bytes(data)
    before = failures()
    assert load(tmp_path) is None
    assert path.with_suffix(".json.newer").read_bytes() == data
    assert failures() == before + 1
    (record,) = caplog.records
    assert "newer kvip" in record.message
    assert record.reason == "format 2, this kvip reads 1; set aside as ledger.json.newer"
    save(tmp_path, journal())
    assert load(tmp_path) == journal()
    assert path.with_suffix(".json.newer").read_bytes() == data


def test_what_a_journal_of_this_format_says_beyond_what_is_known_is_passed_over(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(GOOD.replace(b'"format":1', b'"format":1,"leases":{}'))
    assert load(tmp_path) == journal()


def test_a_directory_in_the_journals_place_is_a_warning(tmp_path, caplog):
    (tmp_path / FILE_NAME).mkdir()
    assert load(tmp_path) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_torn_write_leaves_the_former_journal(tmp_path):
    save(tmp_path, journal())
    (tmp_path / f"{FILE_NAME}.new").write_bytes(b'{"torn')
    assert load(tmp_path) == journal()


def writer(directory, ledger, known=lambda: True):
    return JournalWriter(directory, ledger, node="n1", incarnation=lambda: INCARNATION, known=known)


async def test_the_writer_writes_the_ledger_and_only_when_it_changed(tmp_path):
    ledger = Ledger()
    claim(ledger, "192.0.2.7", "192.0.2.8")
    out = writer(tmp_path, ledger)
    await out.flush()
    found = load(tmp_path)
    assert found is not None
    assert (found.boot_id, found.node, found.incarnation) == (boot_id(), "n1", INCARNATION)
    assert {vip: [c.uid for c in claimants] for vip, claimants in found.claims.items()} == {"192.0.2.7": ["u1"], "192.0.2.8": ["u1"]}
    (tmp_path / FILE_NAME).unlink()
    await out.flush()
    assert not (tmp_path / FILE_NAME).exists()
    claim(ledger, "192.0.2.7")
    await out.flush()
    assert set(load(tmp_path).claims) == {"192.0.2.7"}


async def test_the_former_daemons_journal_stays_until_the_ledger_is_known(tmp_path):
    save(tmp_path, journal())
    await writer(tmp_path, Ledger(), known=lambda: False).flush()
    assert load(tmp_path) == journal()


async def test_a_disk_that_fails_is_a_warning_once_and_a_count_each_time(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    blocked = tmp_path / "state"
    blocked.write_text("a file where the directory should be")
    ledger = Ledger()
    out = writer(blocked, ledger)
    before = failures()
    await out.flush()
    await out.flush()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    blocked.unlink()
    await out.flush()
    assert load(blocked) is not None
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]
    assert failures() == before + 2


async def test_a_touch_is_written_behind_the_loop(tmp_path, monkeypatch):
    monkeypatch.setattr("kvip.daemon.journal.DEBOUNCE_S", 0.0)
    out = writer(tmp_path, Ledger())
    task = asyncio.create_task(out.run())
    out.touch()
    async with asyncio.timeout(5):
        while not (tmp_path / FILE_NAME).exists():
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert load(tmp_path) is not None


WORDS = st.sampled_from(["format", "boot_id", "node", "incarnation", "claims", "uid", "service", "generation", "since", "192.0.2.7", "n1"])
VALUES = st.recursive(
    st.none() | st.integers(-(2**70), 2**70) | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=15,
)
SHAPED = st.fixed_dictionaries(
    {"boot_id": st.just("boot"), "node": st.just("n1"), "incarnation": WORDS}, optional={"claims": VALUES, "x": VALUES}
)


@settings(deadline=None)
@given(
    data=st.binary(max_size=80) | VALUES.map(msgspec.json.encode) | SHAPED.map(msgspec.json.encode),
    at=st.integers(0, 400),
    bit=st.integers(0, 7),
)
def test_any_file_is_a_journal_or_is_set_aside(tmp_path_factory, data, at, bit):
    directory = tmp_path_factory.mktemp("journal")
    damaged = bytearray(data or GOOD)
    damaged[at % len(damaged)] ^= 1 << bit
    for content in (data, bytes(damaged)):
        path = directory / FILE_NAME
        path.write_bytes(content)
        found = load(directory)
        assert isinstance(found, Journal) == path.exists()
        try:
            known = from_journal(str(directory))
        except ConfigError:
            continue
        assert found is not None
        assert known.keys() == found.claims.keys()


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ({}, True),
        ({"node": "n2"}, False),
        ({"boot_id": "of another boot"}, False),
        ({"incarnation": "n2_" + "0" * 32}, False),
        ({"incarnation": "n1"}, False),
        ({"node": "n2", "incarnation": "n2_" + "0" * 32}, False),
    ],
)
def test_a_journal_names_no_other_nodes_incarnation_as_predecessor(changed, counts):
    found = msgspec.structs.replace(journal(), **{"boot_id": boot_id(), **changed})
    assert is_predecessors(found, node="n1") is counts
    assert not is_predecessors(None, node="n1")


async def lines_made_by_one_change(directory, count, monkeypatch):
    """How many VIPs' claimants are encoded anew because one of so many VIPs changed."""
    ledger, made = Ledger(), []
    claim(ledger, *(f"10.0.{n >> 8}.{n & 255}" for n in range(count)))
    out = writer(directory, ledger)
    await out.flush()
    monkeypatch.setattr(journals, "line", lambda vip, claimants: made.append(vip) or line(vip, claimants))
    ledger.claim(Wish(uid=Uid("u2"), key=ServiceKey("ns/b"), addresses=(Vip("10.9.9.9"),)), since="2026-01-01T00:00:00+00:00")
    await out.flush()
    monkeypatch.undo()
    assert len(load(directory).claims) == count + 1
    return len(made)


async def test_one_change_encodes_one_vip_however_many_there_are(tmp_path, monkeypatch):
    assert await lines_made_by_one_change(tmp_path / "few", 10, monkeypatch) == 1
    assert await lines_made_by_one_change(tmp_path / "many", 1_000, monkeypatch) == 1


async def test_a_write_that_was_cut_off_is_made_up_for_by_the_next(tmp_path):
    ledger = Ledger()
    claim(ledger, *(f"10.0.{n >> 8}.{n & 255}" for n in range(1_000)))
    out = writer(tmp_path, ledger)
    task = asyncio.create_task(out.flush())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert load(tmp_path) is None
    await out.flush()
    assert len(load(tmp_path).claims) == 1_000


async def test_claimants_that_go_and_come_again_are_in_the_file_and_in_no_second_place(tmp_path):
    ledger = Ledger()
    out = writer(tmp_path, ledger)
    for vips in (["192.0.2.7", "192.0.2.8"], ["192.0.2.8"], ["192.0.2.8", "192.0.2.7"]):
        claim(ledger, *vips)
        await out.flush()
        assert set(load(tmp_path).claims) == set(vips)
    assert (tmp_path / FILE_NAME).read_text().count("192.0.2.7") == 1
