"""The rules that are taken away from kvip, one at a time, and the tests that must notice: data for `lab.mutants`.

Out: `MUTANTS`. A change is a text that the file holds exactly once, and what it becomes.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One rule taken away: in `file`, `old` becomes `new`; then `tests` (of one ring) must fail."""

    rule: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    more: tuple[tuple[str, str], ...] = ()
    """Further changes of the same file."""


def _claims_mutant(rule: str, what: str, module: str, old: str, new: str) -> Mutant:
    """A rule of mode `claims`, noticed without the random stories."""
    tests = ("tests/unit/core/election", "--deselect", "tests/unit/core/election/test_chaos.py")
    return Mutant(rule, what, f"kvip/core/election/{module}.py", old, new, tests)


MUTANTS = (
    Mutant(
        "K1",
        "the dead-man's switch off",
        "kvip/daemon/app.py",
        "if settings.switch\n",
        "if not settings.switch\n",
        ("tests/scenario/test_fault_table.py", "-k", "SIGKILL or SIGSTOP"),
    ),
    Mutant(
        "K2",
        "the switch without its outbound rules",
        "kvip/core/ruleset.py",
        '_chain("output", "type filter hook output priority -300;", "arp saddr ip vmap @vips4"),',
        "",
        ("tests/netns/test_switch_wire.py", "-k", "k2"),
        more=(
            ('            "arp saddr ip vmap @vips4",\n            "icmpv6 type nd-neighbor-advert @th,64,128 vmap @vips6",', ""),
            ('"oifname @nics ip saddr vmap @vips4",', ""),
            ('"oifname @nics meta nfproto ipv6 @nh,64,128 vmap @vips6",', ""),
            (', f"{_DISCOVERY} @nh,64,128 vmap @vips6"', ""),
        ),
    ),
    Mutant(
        "K3",
        "a VIP is taken on its new NIC whether or not it has left the old one",
        "kvip/daemon/turn.py",
        "takes = [action for action in takes if action.vip not in stuck]",
        "",
        ("tests/unit/daemon/test_nic_moves.py",),
    ),
    Mutant(
        "K2, F1",
        "the switch without its egress hook",
        "kvip/core/ruleset.py",
        '            "arp saddr ip vmap @vips4",\n            "icmpv6 type nd-neighbor-advert @th,64,128 vmap @vips6",',
        "",
        ("tests/netns/test_switch_wire.py", "-k", "f1"),
    ),
    Mutant(
        "K4",
        "a re-arming that came late is not taken back",
        "kvip/kernel/switch.py",
        "if self._clock.now() - began <= SLACK_S:",
        "if True:",
        ("tests/netns/test_switch_arming.py", "-k", "k4"),
    ),
    Mutant(
        "K5",
        "what a former daemon left may answer before it is removed",
        "kvip/kernel/switch.py",
        "places = {vip: Place(SILENT, nic) for vip, nic in vips.items()}\n        hooked",
        "places = {vip: Place(self._groups[0], nic) for vip, nic in vips.items()}\n        hooked",
        ("tests/netns/test_switch_wire.py", "-k", "k5"),
    ),
    Mutant(
        "K5",
        "what a former daemon left stays bound, silent by the rules alone",
        "kvip/daemon/executor.py",
        "problems = self._binding.remove(self._left_behind())",
        "problems = []",
        ("tests/scenario/test_left_behind.py", "-k", "k5"),
    ),
    Mutant(
        "K7",
        "rules that someone removed are not put back",
        "kvip/daemon/guard.py",
        "    def _put_back_and_arm(self) -> str:\n",
        '    def _put_back_and_arm(self) -> str:\n        return ""\n',
        ("tests/scenario/test_fault_table.py", "-k", "flush"),
    ),
    Mutant(
        "R1",
        "a renewal that is answered too late counts",
        "kvip/core/election/lease.py",
        "in_time = now < until and (election.valid_until is None or now < election.valid_until)",
        "in_time = True",
        (
            "tests/unit/core/election/test_lease_holding.py",
            "tests/unit/core/election/test_lease_machine.py",
            "tests/unit/daemon/test_lease_loop.py",
        ),
    ),
    Mutant(
        "R2",
        "a fence does not disarm the switch",
        "kvip/daemon/executor.py",
        "self._epoch += 1\n        self._guard.disarm()",
        "self._epoch += 1",
        ("tests/unit/daemon/test_executor_fence.py",),
    ),
    _claims_mutant(
        "T2",
        "kill-by-CAS off: a silent node counts as dead without the write",
        "taking",
        "        return _send(state, renewal.kill(state, member.beat, now), now)",
        "        return replace(state, dead=state.dead | {holder}), None, now",
    ),
    _claims_mutant(
        "T1",
        "the freshness rule off: an old view counts as recent",
        "state",
        "    return state.fresh_at is not None and now - state.fresh_at <= 2 * state.timers.retry_period_s",
        "    return True",
    ),
    _claims_mutant(
        "T1",
        "time without a view counts as silence",
        "learn",
        "    gap = before is None or now - before > 2 * state.timers.retry_period_s",
        "    gap = before is None",
    ),
    _claims_mutant(
        "T1",
        "our own lease duration counts instead of the published one",
        "members",
        "    shortest_s = max(own_s, beat.duration_s, before.duration_s if before is not None else 0.0)",
        "    shortest_s = own_s",
    ),
    _claims_mutant(
        "T3",
        "a dead holder is taken from without reading its heartbeat again",
        "taking",
        "    elif member is not None and member.read_at >= max(dead_at(member, fresh_since=state.fresh_since), listed_since):",
        "    elif member is not None:",
    ),
    _claims_mutant(
        "T4",
        "a heartbeat that vanished leaves no tombstone",
        "members",
        "        silence_s = max(known.silence_s, own_s) if known is not None and named else max(longest_s, own_s)",
        "        silence_s = 0.0",
    ),
    _claims_mutant(
        "T4",
        "a record that vanished leaves no tombstone",
        "learn_records",
        "        return _set_record(state, slot, None, now=now, free_from=now + longest_s(state))",
        "        return _set_record(state, slot, None, now=now, free_from=now)",
    ),
    _claims_mutant(
        "T4",
        "a young daemon creates entries for VIPs that show a holder",
        "taking",
        "        return max(state.bridged_at, state.listed_at) + longest_s(state) if want.shown else 0.0",
        "        return 0.0",
    ),
    _claims_mutant(
        "T4",
        "after a restore of the store nothing is waited for",
        "history",
        "        not_before=now + longest_s(state),",
        "        not_before=0.0,",
    ),
    _claims_mutant(
        "T5",
        "a VIP is written off while it is still bound",
        "taking",
        "    off = frozenset(vip for vip in slot.leaving & before.leaving if not _want(slot, vip).held)",
        "    off = slot.leaving",
    ),
    _claims_mutant(
        "T5",
        "no turns: every candidate takes at once",
        "taking",
        "    return free + placement.delay_s(rank)",
        "    return free",
    ),
    _claims_mutant(
        "R1",
        "a heartbeat that is confirmed too late counts",
        "learn",
        "    in_time = now < until and fresh(state, now) if state.renewed_until is None else valid(state, now)",
        "    in_time = True",
    ),
    _claims_mutant(
        "R3",
        "one's own heartbeat naming another is no loss",
        "learn",
        '        return replace(state, lost="heartbeat taken by another" if beat.holder else "heartbeat ended by another")',
        "        return state",
    ),
    _claims_mutant(
        "R5",
        "a node that cannot act renews",
        "renewal",
        "    if now < due or stuck:",
        "    if now < due:",
    ),
    _claims_mutant(
        "R7",
        "a heartbeat of another life under our name is overwritten",
        "renewal",
        "    if beat is not None and beat.intact and (not beat.holder or beat.holder in ours):",
        "    if beat is not None and beat.intact:",
    ),
    Mutant(
        "K5",
        "a VIP is taken before its firewall rules are there",
        "kvip/core/diff.py",
        "if wanted.secured else []",
        "",
        ("tests/unit/daemon/test_firewall.py",),
    ),
    Mutant(
        "K5",
        "a VIP's firewall rules go before its address",
        "kvip/daemon/firewall.py",
        "if not claimants and vip in self._wanted and self._bound(vip):",
        "if False:",
        ("tests/unit/daemon/test_firewall.py",),
    ),
    Mutant(
        "K7",
        "firewall rules that someone changed are not looked at",
        "kvip/daemon/firewall.py",
        "        if not self._intact():\n            self._tampered",
        "        if False:\n            self._tampered",
        ("tests/unit/daemon/test_firewall_failures.py",),
    ),
    Mutant(
        "I3",
        "UID tracking reduced to names",
        "kvip/core/ledger.py",
        "if former is not None and former != wish.uid:",
        "if False:",
        ("tests/unit/core/test_ledger.py",),
    ),
    Mutant(
        "I5",
        "an unknown desire counts as no claim",
        "kvip/core/diff.py",
        "if wanted.known and not wanted.claimed:",
        "if not wanted.claimed:",
        ("tests/unit/core/test_diff.py",),
    ),
    Mutant(
        "I6",
        "an address without the mark is taken over",
        "kvip/daemon/binding.py",
        'operations, now = self._operations("add", targets, dad)',
        'operations, now = self._operations("replace", targets, dad)',
        ("tests/unit/daemon/test_executor.py", "-k", "unmarked"),
    ),
)
