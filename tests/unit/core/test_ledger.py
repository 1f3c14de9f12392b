"""The ledger against a naive model: any order of claims, drops and re-creations under another UID."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvip.core.desired import Wish
from kvip.core.ledger import Ledger
from kvip.core.model import ServiceKey, Uid, Vip

KEYS = tuple(ServiceKey(f"ns/{name}") for name in "abc")
VIPS = tuple(Vip(f"192.0.2.{n}") for n in range(1, 5))


def wish(key, uid, *vips, generation=1):
    return Wish(uid=Uid(uid), key=ServiceKey(key), generation=generation, addresses=tuple(vips))


class LedgerAgainstModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.ledger = Ledger()
        self.model = {}  # key -> (uid, set of VIPs)
        self.lives = dict.fromkeys(KEYS, 0)
        self.since = {}  # (vip, uid) -> when first claimed
        self.tick = 0

    def claimants(self, vip):
        return {uid for uid, vips in self.model.values() if vip in vips}

    def change(self, act):
        before = {vip: self.claimants(vip) for vip in VIPS}
        touched = act()
        changed = {vip for vip in VIPS if self.claimants(vip) != before[vip]}
        assert changed == touched

    @rule(key=st.sampled_from(KEYS), vips=st.sets(st.sampled_from(VIPS)), again=st.booleans())
    def claim(self, key, vips, again):
        self.tick += 1
        self.lives[key] += again
        uid = Uid(f"{key}-{self.lives[key]}")

        def act():
            touched = self.ledger.claim(wish(key, uid, *vips, generation=self.tick), since=str(self.tick))
            self.model.pop(key, None)
            if vips:
                self.model[key] = (uid, vips)
            return touched

        self.change(act)
        held = {(vip, owner) for owner, mine in self.model.values() for vip in mine}
        self.since = {pair: at for pair, at in self.since.items() if pair in held}
        for vip in vips:
            self.since.setdefault((vip, uid), str(self.tick))
            claimant = self.ledger.claimants(vip)[uid]
            assert (claimant.service, claimant.generation, claimant.since) == (key, self.tick, self.since[vip, uid])

    @rule(key=st.sampled_from(KEYS))
    def drop(self, key):
        def act():
            touched = self.ledger.drop(key)
            self.model.pop(key, None)
            return touched

        self.change(act)
        held = {(vip, owner) for owner, mine in self.model.values() for vip in mine}
        self.since = {pair: at for pair, at in self.since.items() if pair in held}

    @invariant()
    def agrees(self):
        for vip in VIPS:
            assert set(self.ledger.claimants(vip)) == self.claimants(vip)
        for key in KEYS:
            assert self.ledger.claims_of(key) == self.model.get(key, ("", frozenset()))[1]
        assert set(self.ledger.services()) == set(self.model)
        assert set(self.ledger.vips()) == {vip for vip in VIPS if self.claimants(vip)}
        assert len(self.ledger) == len(list(self.ledger.vips()))


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(
    max_examples=settings.default.max_examples * 3 // 5, stateful_step_count=25, deadline=None, database=None
)


def test_a_shared_vip_stays_claimed_until_the_second_service_goes():
    ledger = Ledger()
    ledger.claim(wish("ns/a", "1", VIPS[0]), since="")
    ledger.claim(wish("ns/b", "2", VIPS[0]), since="")
    assert ledger.drop(KEYS[0]) == {VIPS[0]}
    assert set(ledger.claimants(VIPS[0])) == {"2"}
    ledger.drop(KEYS[1])
    assert not ledger.claimants(VIPS[0])
    assert len(ledger) == 0


def test_a_recreated_service_replaces_its_predecessors_claims():
    ledger = Ledger()
    ledger.claim(wish("ns/a", "1", VIPS[0], VIPS[1]), since="t1")
    assert ledger.claim(wish("ns/a", "2", VIPS[0]), since="t2") == {VIPS[0], VIPS[1]}
    assert {uid: c.since for uid, c in ledger.claimants(VIPS[0]).items()} == {"2": "t2"}
    assert not ledger.claimants(VIPS[1])


def test_a_recreated_service_that_asks_for_nothing_drops_its_predecessors_claims():
    ledger = Ledger()
    ledger.claim(wish("ns/a", "1", VIPS[0]), since="")
    assert ledger.claim(wish("ns/a", "2"), since="") == {VIPS[0]}
    assert len(ledger) == 0


def test_the_same_wish_again_touches_nothing():
    ledger = Ledger()
    ledger.claim(wish("ns/a", "1", VIPS[0]), since="t1")
    assert ledger.claim(wish("ns/a", "1", VIPS[0], generation=2), since="t2") == set()
    assert ledger.claimants(VIPS[0])[Uid("1")].since == "t1"


def test_dropping_an_unknown_service_touches_nothing():
    assert Ledger().drop(KEYS[0]) == set()


def test_news_names_each_vip_of_which_something_changed_once():
    ledger = Ledger()
    ledger.claim(wish("ns/a", "u1", *VIPS[:2]), since="then")
    assert ledger.news() == set(VIPS[:2])
    ledger.claim(wish("ns/a", "u1", *VIPS[:2]), since="later")
    assert ledger.news() == set()
    ledger.claim(wish("ns/a", "u1", *VIPS[1:3]), since="later")
    assert ledger.news() == {VIPS[0], VIPS[2]}
    ledger.claim(wish("ns/a", "u1", VIPS[1], generation=2), since="later")
    assert ledger.news() == {VIPS[1], VIPS[2]}
    ledger.drop(ServiceKey("ns/a"))
    assert ledger.news() == {VIPS[1]}
