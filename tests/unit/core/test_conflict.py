"""What a foreign claim means: report, defend, ask the election or nothing, and how often at most."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.conflict import (
    DEFEND_INTERVAL_S,
    NOTHING_KNOWN,
    VERIFY_INTERVAL_S,
    Claim,
    Move,
    dropped,
    due,
    heard,
    idle,
    listened,
    needs_probe,
    postponed,
    probed,
)
from kvip.core.model import IfIndex, Vip

VIP, VIP6 = Vip("192.0.2.7"), Vip("2001:db8::7")
STRANGER, SECOND = b"\2\0\0\0\0\x99", b"\2\0\0\0\0\x98"
NIC = IfIndex(2)


def hear(standing, mac=STRANGER, *, at=100.0, held=True, peer=False, probing=False):
    claim = Claim(vip=VIP, mac=mac, probing=probing)
    return heard(standing, claim, index=NIC, held=held, peer=peer, now=at, retry_at=at + 30.0)


def ask(standing, answer, *, at=100.0, held=False):
    return probed(standing, answer, index=NIC, held=held, now=at, retry_at=at + 30.0)


# -- before the first bind ---------------------------------------------------------------------------------------------


def test_an_answered_probe_is_a_conflict_that_forbids_binding():
    standing, move = ask(NOTHING_KNOWN, STRANGER)
    assert move == Move.REPORT
    assert (standing.mac, standing.index, standing.before_binding) == (STRANGER, NIC, True)


def test_a_probe_that_nobody_answers_is_nothing():
    assert ask(NOTHING_KNOWN, None) == (NOTHING_KNOWN, Move.NOTHING)


def test_a_conflict_is_reported_once_however_often_it_is_found():
    standing, _ = ask(NOTHING_KNOWN, STRANGER)
    for at in (130.0, 160.0, 600.0):
        standing, move = ask(standing, STRANGER, at=at)
        assert move == Move.NOTHING
        assert standing.mac == STRANGER


def test_another_foreign_host_is_reported_too_but_two_that_alternate_are_not_reported_each_time():
    standing, _ = ask(NOTHING_KNOWN, STRANGER, at=100.0)
    standing, move = ask(standing, SECOND, at=130.0)
    assert move == Move.REPORT
    standing, move = ask(standing, STRANGER, at=131.0)
    assert move == Move.NOTHING
    assert standing.mac == STRANGER


def test_a_conflict_ends_when_the_probe_is_not_answered_any_more():
    standing, _ = ask(NOTHING_KNOWN, STRANGER)
    standing, move = ask(standing, None, at=130.0)
    assert move == Move.ENDED
    assert (standing.mac, standing.before_binding) == (b"", False)
    assert ask(standing, None, at=160.0)[1] == Move.NOTHING


def test_a_conflict_is_looked_into_when_its_time_has_come_and_not_before():
    standing, _ = ask(NOTHING_KNOWN, STRANGER, at=100.0)
    assert not due(standing, now=129.9)
    assert due(standing, now=130.0)
    standing = postponed(standing, retry_at=170.0)
    assert standing.mac == STRANGER
    assert not due(standing, now=169.9)
    assert not due(NOTHING_KNOWN, now=1e9)


def test_what_concerns_nobody_here_any_more_is_over():
    standing, _ = ask(NOTHING_KNOWN, STRANGER)
    standing, move = dropped(standing)
    assert move == Move.ENDED
    assert standing.mac == b""


# -- while holding -----------------------------------------------------------------------------------------------------


def test_f2_a_strangers_claim_is_reported_and_defended_at_once():
    standing, move = hear(NOTHING_KNOWN)
    assert move == Move.REPORT | Move.DEFEND
    assert (standing.mac, standing.before_binding, standing.retry_at) == (STRANGER, False, 130.0)


def test_f2_a_stranger_is_answered_at_most_once_in_10_s():
    standing, _ = hear(NOTHING_KNOWN, at=100.0)
    for at in (100.0, 105.0, 109.999):
        standing, move = hear(standing, at=at)
        assert move == Move.NOTHING
    standing, move = hear(standing, at=110.0)
    assert move == Move.DEFEND


def test_f2_a_peers_claim_is_never_defended_but_verified():
    standing, move = hear(NOTHING_KNOWN, peer=True)
    assert move == Move.VERIFY
    assert standing.mac == b""


def test_f1_a_peers_claims_are_verified_at_most_once_a_second():
    standing, _ = hear(NOTHING_KNOWN, at=100.0, peer=True)
    standing, move = hear(standing, at=100.999, peer=True)
    assert move == Move.NOTHING
    standing, move = hear(standing, at=101.0, peer=True)
    assert move == Move.VERIFY


def test_a_probe_of_a_held_vip_is_answered_by_the_kernel_and_no_claim():
    assert hear(NOTHING_KNOWN, probing=True) == (NOTHING_KNOWN, Move.NOTHING)


def test_a_claim_of_what_is_not_held_is_nothing():
    assert hear(NOTHING_KNOWN, held=False) == (NOTHING_KNOWN, Move.NOTHING)


def test_a_claim_of_a_vip_that_waits_for_its_conflict_to_end_is_noted_only():
    waiting, _ = ask(NOTHING_KNOWN, STRANGER, at=100.0)
    standing, move = hear(waiting, held=False, at=120.0)
    assert move == Move.NOTHING
    assert standing == msgspec.structs.replace(waiting, heard_at=120.0)


def test_a_vip_that_was_bound_in_spite_of_a_conflict_is_not_forbidden_later():
    standing, _ = ask(NOTHING_KNOWN, STRANGER)
    standing, move = hear(standing, at=101.0, held=True)
    assert move == Move.DEFEND
    assert not standing.before_binding


def test_asking_while_holding_never_forbids_binding():
    standing, _ = hear(NOTHING_KNOWN, at=100.0)
    standing, _ = ask(standing, STRANGER, at=130.0, held=True)
    assert standing.mac == STRANGER
    assert not standing.before_binding


def test_a_held_ipv6_vip_is_never_asked_for_since_the_answer_would_move_every_cache():
    assert not needs_probe(VIP6, held=True)
    assert needs_probe(VIP6, held=False)
    assert needs_probe(VIP, held=True)


def test_a_conflict_that_is_only_listened_for_ends_after_silence():
    standing, _ = hear(NOTHING_KNOWN, at=100.0)
    standing, _ = hear(standing, at=125.0)
    standing, move = listened(standing, now=130.0, quiet_s=30.0, retry_at=160.0)
    assert move == Move.NOTHING
    assert not due(standing, now=159.0)
    standing, move = listened(standing, now=160.0, quiet_s=30.0, retry_at=190.0)
    assert move == Move.ENDED


def test_nothing_is_forgotten_while_a_rate_limit_runs():
    standing, _ = hear(NOTHING_KNOWN, at=100.0, peer=True)
    assert not idle(standing, now=100.9)
    assert idle(standing, now=101.0)
    standing, _ = hear(NOTHING_KNOWN, at=100.0)
    assert not idle(standing, now=1e9)
    standing, _ = dropped(standing)
    assert not idle(standing, now=109.9)
    assert idle(standing, now=110.0)
    assert idle(NOTHING_KNOWN, now=0.0)


# -- always ------------------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.floats(0.0, 12.0),
        st.sampled_from(["claim", "probe", "peer", "answer", "silence", "listen", "drop", "forget"]),
        st.sampled_from([STRANGER, SECOND]),
        st.booleans(),
    ),
    max_size=60,
)


@given(steps)
def test_f1_f2_whatever_is_heard_the_answers_are_rare_and_the_reports_match(story):
    standing, now = NOTHING_KNOWN, 1000.0
    at: dict[Move, list[float]] = {move: [] for move in Move}
    open_conflict = False
    for pause, kind, mac, held in story:
        now += pause
        match kind:
            case "claim" | "probe" | "peer":
                standing, move = hear(standing, mac, at=now, held=held, peer=kind == "peer", probing=kind == "probe")
            case "answer" | "silence":
                standing, move = ask(standing, mac if kind == "answer" else None, at=now, held=held)
            case "listen" if standing.mac:
                standing, move = (
                    listened(standing, now=now, quiet_s=30.0, retry_at=now + 30.0) if standing.mac else (standing, Move.NOTHING)
                )
            case "drop":
                standing, move = dropped(standing)
            case _:
                standing, move = (NOTHING_KNOWN if idle(standing, now=now) else standing), Move.NOTHING
        for part in move:
            at[part].append(now)
        assert not (Move.DEFEND in move and kind != "claim")
        assert not (Move.DEFEND | Move.VERIFY) & move or held
        assert (Move.ENDED in move) <= open_conflict
        open_conflict = bool(standing.mac)
        assert not open_conflict or at[Move.REPORT]
        assert not (standing.before_binding and not standing.mac)
    for move, interval in ((Move.DEFEND, DEFEND_INTERVAL_S), (Move.VERIFY, VERIFY_INTERVAL_S)):
        # A limit that ends at the very instant may be off by the last bit.
        assert all(later - earlier >= interval - 1e-6 for earlier, later in zip(at[move], at[move][1:], strict=False))
    assert len(at[Move.ENDED]) <= len(at[Move.REPORT])
