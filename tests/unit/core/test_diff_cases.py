"""What the planner does about one VIP in single cases, each by its name."""

import msgspec
import pytest

from kvip.core.diff import DADFAILED, DUPLICATE, TAKEN, TENTATIVE, Adopt, Announce, Conflict, Hush, LetGo, Probe, Refresh, Take, Wanted
from tests.unit.core.planning import LINKS, VIPS, act, bound

WANTED = Wanted(vip=VIPS[0], known=True, claimed=True, permitted=True, link=LINKS[0], announced=True, guarded=True)


@pytest.mark.parametrize(("left_s", "due"), [(60.0, False), (40.0, False), (39.9, True), (0.0, True), (-5.0, True), (None, True)])
def test_an_address_is_refreshed_when_a_third_of_its_life_has_passed(left_s, due):
    expected = (Refresh(vip=VIPS[0], link=LINKS[0]),) if due else ()
    assert act(WANTED, (bound(VIPS[0], left_s=left_s),)) == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"permitted": False}, "no permit"),
        ({"permitted": False, "known": False}, "no permit"),
        ({"claimed": False}, "no claimant"),
        ({"eligible": False}, "no local endpoint"),
    ],
)
def test_a_let_go_says_why(fields, reason):
    (action,) = act(msgspec.structs.replace(WANTED, **fields), (bound(VIPS[0]),))
    assert isinstance(action, LetGo)
    assert action.reason == reason


def test_a_duplicate_is_let_go_of_and_not_bound_at_once_again():
    (gone,) = act(msgspec.structs.replace(WANTED, vip=VIPS[1]), (bound(VIPS[1], flags=DADFAILED),))
    assert isinstance(gone, LetGo)
    assert gone.reason == DUPLICATE


def test_a_tentative_address_is_not_announced_before_the_kernel_uses_it():
    wanted = msgspec.structs.replace(WANTED, vip=VIPS[1], announced=False)
    assert act(wanted, (bound(VIPS[1], flags=TENTATIVE),)) == ()
    assert act(wanted, (bound(VIPS[1]),)) == (Announce(vip=VIPS[1], link=LINKS[0]),)


@pytest.mark.parametrize("dad", [False, True])
def test_duplicate_address_detection_is_asked_for_with_the_bind(dad):
    wanted = msgspec.structs.replace(WANTED, vip=VIPS[1], announced=False, guarded=False, dad=dad)
    assert act(wanted, ()) == (Take(vip=VIPS[1], link=LINKS[0], dad=dad),)


@pytest.mark.parametrize("place", [{"index": 3}, {"prefix": 24}])
def test_a_wrongly_bound_vip_is_bound_anew(place):
    gone, taken = act(WANTED, (bound(VIPS[0], **place),))
    assert isinstance(gone, LetGo)
    assert taken == Take(vip=VIPS[0], link=LINKS[0])


def test_an_unmarked_twin_makes_ours_go_and_is_reported():
    ours, theirs = bound(VIPS[0]), bound(VIPS[0], index=3, marked=False)
    gone, conflict = act(WANTED, (ours, theirs))
    assert isinstance(gone, LetGo)
    assert gone.address == ours.address
    assert conflict == Conflict(vip=VIPS[0], address=theirs.address)


def test_without_its_nic_a_vip_is_neither_bound_nor_let_go_of():
    wanted = msgspec.structs.replace(WANTED, link=None)
    assert act(wanted, ()) == (Hush(vip=VIPS[0]),)
    assert act(wanted, (bound(VIPS[0]),)) == ()


def test_what_is_bound_but_not_announced_is_announced():
    wanted = msgspec.structs.replace(WANTED, announced=False)
    assert act(wanted, (bound(VIPS[0]),)) == (Announce(vip=VIPS[0], link=LINKS[0]),)


def test_what_lost_its_mark_is_no_longer_announced():
    wanted = msgspec.structs.replace(WANTED, claimed=False, guarded=False)
    assert act(wanted, (bound(VIPS[0], marked=False),)) == (Hush(vip=VIPS[0]),)


SILENT = msgspec.structs.replace(WANTED, announced=False, admitted=False)


def test_what_is_bound_and_silent_is_adopted_when_it_is_ours():
    assert act(SILENT, (bound(VIPS[0]),)) == (Adopt(vip=VIPS[0], link=LINKS[0]),)


def test_g1_what_is_bound_and_silent_is_adopted_only_when_nobody_else_has_it():
    """A holder that was no kvip may have had it since, and been killed: its kernel answers still."""
    asked = msgspec.structs.replace(SILENT, unprobed=True)
    assert act(asked, (bound(VIPS[0]),)) == (Probe(vip=VIPS[0], link=LINKS[0]),)
    assert act(asked, (bound(VIPS[0], left_s=10.0),)) == (Probe(vip=VIPS[0], link=LINKS[0]), Refresh(vip=VIPS[0], link=LINKS[0]))
    for left_s in (60.0, 10.0, None):
        (gone,) = act(msgspec.structs.replace(asked, contested=True), (bound(VIPS[0], left_s=left_s),))
        assert (type(gone), gone.reason) == (LetGo, TAKEN), "and no renewal, which would bind it again"


@pytest.mark.parametrize("known", [True, False])
def test_k5_a_silent_address_goes_when_there_is_no_permit(known):
    (gone,) = act(msgspec.structs.replace(SILENT, permitted=False, known=known), (bound(VIPS[0]),))
    assert gone.reason == "no permit"


def test_an_address_of_no_known_holder_is_probed_before_it_is_bound():
    fresh = msgspec.structs.replace(WANTED, announced=False, guarded=False)
    assert act(msgspec.structs.replace(fresh, unprobed=True), ()) == (Probe(vip=VIPS[0], link=LINKS[0]),)
    assert act(msgspec.structs.replace(fresh, contested=True), ()) == ()
    assert act(fresh, ()) == (Take(vip=VIPS[0], link=LINKS[0]),)


def test_a_contested_address_that_is_held_stays():
    assert act(msgspec.structs.replace(WANTED, contested=True, unprobed=True), (bound(VIPS[0]),)) == ()
