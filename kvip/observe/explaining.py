"""Why a Service has, or has not, its VIPs: the chain of decisions with the facts behind each, and the cause at its end.

Input: one Service, the rules, and for each of its VIPs what a node (or the API server alone) knows. Output: `Explanation`. Pure. The
decisions are the core's own functions, called again or handed in as they came out; here they are only put into words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from kvip.core import siting
from kvip.core.addresses import Surroundings, parse
from kvip.core.desired import Rules, Wish, interpret, not_ours, outside, requested
from kvip.core.model import ServiceKey, Vip
from kvip.core.objects import Ingress, Service
from kvip.core.problem import Problem
from kvip.core.sharing import split
from kvip.observe import advice, standing
from kvip.observe.standing import VipFacts, judge
from kvip.observe.state import Header, Instants, unready

Verdict = Literal["yes", "no", "wait"]
MAY_HAVE = "May it have it?"
TOLD = frozenset({"InvalidAddress", "PortConflict", "NoNode"})
"""Reasons of Events that have a step of their own."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. `vip` "" = about the Service as a whole."""

    question: str
    verdict: Verdict
    """"yes": nothing in the way; "no": here it ends; "wait": not yet, or not for this node to say."""
    answer: str
    vip: str = ""
    advice: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The document."""

    at: str
    node: str
    """Whose view it is; "" = the API server's objects alone."""
    service: ServiceKey
    uid: str
    works: bool
    """Is every address that it names held, announced and shown in its status?"""
    steps: tuple[Step, ...]
    remarks: tuple[str, ...]
    """What else of its wish is not done: the text of its Events."""
    next: str
    """What to do."""
    cause: str
    """The first thing that is in the way; where it works, that it does."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is known."""

    key: ServiceKey
    service: Service | None
    header: Header | None
    """None = no daemon's view, but that of the API server's objects alone."""
    rules: Rules
    surroundings: Surroundings = Surroundings()
    rivals: Mapping[Vip, Sequence[Wish]] = {}
    """Who else asks for its addresses."""
    facts: Mapping[Vip, VipFacts] = {}
    """Of each address that it names, those that it cannot have included."""
    objections: tuple[Problem, ...] = ()
    """What is not done as asked because of other Services, endpoints or nodes."""
    writes_status: bool = True
    refresh_s: float = 60.0

    @property
    def node(self) -> str:
        """Whose view it is."""
        return self.header.node if self.header is not None else ""


def explain(case: Case, instants: Instants) -> Explanation:
    """The chain, up to what is in the way, and what to do about it."""
    wish = interpret(case.service, case.rules, case.surroundings) if case.service is not None else None
    steps = tuple(_steps(case, wish, instants))
    bad = next((step for step in steps if step.verdict == "no"), None) or next((step for step in steps if step.verdict == "wait"), None)
    problems = [*(wish.problems if wish is not None else ()), *case.objections]
    return Explanation(
        at=instants.now(),
        node=case.node,
        service=case.key,
        uid=case.service.metadata.uid if case.service is not None else "",
        works=bad is None,
        steps=steps,
        remarks=tuple(dict.fromkeys(f"{each.reason}: {each.message}" for each in problems if each.reason not in TOLD)),
        next=(bad.advice or advice.WATCH) if bad is not None else advice.NOTHING,
        cause=f"{f'{bad.vip}: ' if bad.vip else ''}{bad.answer}" if bad is not None else _success(case, wish),
    )


def _success(case: Case, wish: Wish | None) -> str:
    held = [
        f"{vip} by {case.facts[vip].holding_node or 'another node'}"
        for vip in (wish.addresses if wish is not None else ())
        if vip in case.facts
    ]
    return f"none, it works ({', '.join(held)})"


def _steps(case: Case, wish: Wish | None, instants: Instants) -> Iterator[Step]:
    if case.header is not None:
        yield _heard(case.header)
    ours = _ours(case)
    yield ours
    if ours.verdict != "yes" or case.service is None or wish is None:
        return
    named, values = requested(case.service, case.rules)
    if not named:
        yield Step(question="Which addresses?", verdict="no", answer="the Service names no address", advice=advice.NAME_ONE)
        return
    yield Step(question="Which addresses?", verdict="yes", answer=f"{named}: {', '.join(values) or 'none'}")
    yield from _refused(case, wish)
    for vip in wish.addresses:
        granted = _granted(case, wish, vip)
        yield granted
        if granted.verdict == "yes" and vip in case.facts:
            yield from _of_vip(case, case.service, wish, case.facts[vip], instants)


def _heard(header: Header) -> Step:
    question = "Does the daemon know enough?"
    if not header.observed or not all(header.synced.values()) or not header.known:
        return Step(question=question, verdict="no", answer=unready(header), advice=advice.API)
    return Step(question=question, verdict="yes", answer="it follows the API server, and has read every Service")


def _ours(case: Case) -> Step:
    question = "Is it ours?"
    beyond = outside(case.key.partition("/")[0], case.rules)
    if beyond:
        return Step(question=question, verdict="no", answer=beyond, advice=advice.NAMESPACE)
    if case.service is None:
        return Step(question=question, verdict="no", answer="there is no Service of this name", advice=advice.NO_SERVICE)
    why = not_ours(case.service, case.rules)
    if why:
        return Step(question=question, verdict="no", answer=why, advice=advice.NOT_OURS)
    chosen = case.service.spec.load_balancer_class
    return Step(question=question, verdict="yes", answer=f"type LoadBalancer, {f'class {chosen}' if chosen else 'no class'}")


def _refused(case: Case, wish: Wish) -> Iterator[Step]:
    """What it names and cannot have."""
    for refused in wish.refused:
        held = _held_elsewhere(case, refused.value)
        answer = f"{refused.fault}; not bound{f' by {case.node}' if held else ''}{held}"
        yield Step(question=MAY_HAVE, vip=refused.value[:64], verdict="no", answer=answer, advice=advice.for_value(refused.fault))


def _granted(case: Case, wish: Wish, vip: Vip) -> Step:
    """May the Service have this address beside the others that ask for it?"""
    others = [each for each in case.rivals.get(vip, ()) if each.key != wish.key]
    clash = split([wish, *others]).refused.get(wish.key)
    if clash is None:
        names = ", ".join(sorted(each.key for each in others)[:5])
        return Step(question=MAY_HAVE, vip=vip, verdict="yes", answer=f"yes, with {names}" if names else "yes, alone")
    protocol, number = clash.port
    answer = f"port {number}/{protocol} of it is taken by the older Service {clash.older}"
    return Step(question=MAY_HAVE, vip=vip, verdict="no", answer=answer, advice=advice.PORT)


def _held_elsewhere(case: Case, value: str) -> str:
    try:
        facts = case.facts.get(parse(value))
    except ValueError:
        return ""
    return f"; {facts.holding_node} holds it" if facts is not None and facts.elsewhere and facts.holder else ""


def _of_vip(case: Case, service: Service, wish: Wish, facts: VipFacts, instants: Instants) -> Iterator[Step]:
    vip = facts.vip
    state, reason = judge(facts, unready=unready(case.header) if case.header is not None else "")
    gone_on = state in ("announced", "bound", "held-elsewhere", "conflict")
    places = [_where(facts, gone_on=gone_on), *([_nic(facts, gone_on=gone_on)] if facts.nic is not None else [])]
    yield from places
    held = facts.permit_until is not None or facts.elsewhere
    yield _holder(case, facts, instants, nowhere=any(step.verdict == "no" for step in places))
    if state in ("conflict", "pending", "releasing") and (held or state != "pending"):
        yield Step(question="Bound?", vip=vip, verdict="no", answer=reason, advice=advice.for_state(state, facts))
        return
    if not held:
        return
    if facts.elsewhere:
        yield Step(
            question="Bound and announced?", vip=vip, verdict="yes", answer=f"{facts.holding_node or 'another node'} knows: ask its daemon"
        )
    else:
        yield _bound(facts, instants)
        yield _announced(facts, reason, instants, refresh_s=case.refresh_s)
        if state != "announced":
            return
    yield _status(case, service, wish, facts)


def _where(facts: VipFacts, *, gone_on: bool) -> Step:
    question = "Which nodes may hold it?"
    nodes = facts.choice.nodes
    if not facts.choice.known:
        return Step(
            question=question,
            vip=facts.vip,
            verdict="yes" if gone_on else "wait",
            answer=standing.site_fault(facts),
            advice=advice.SELECTOR,
        )
    if nodes is None:
        return Step(question=question, vip=facts.vip, verdict="yes", answer="any node")
    if not nodes:
        answer = facts.shortage or "none"
        return Step(question=question, vip=facts.vip, verdict="no", answer=answer, advice=advice.for_shortage(answer))
    others = "" if not facts.node or facts.node in nodes else f"; {facts.node} may not"
    return Step(question=question, vip=facts.vip, verdict="yes", answer=f"{siting.listed(nodes)}{others}")


def _nic(facts: VipFacts, *, gone_on: bool) -> Step:
    question = f"Which NIC of {facts.node}?"
    fault = standing.nic_fault(facts) or standing.carrier_fault(facts)
    if fault:
        verdict: Verdict = "yes" if facts.elsewhere or gone_on else "no"
        return Step(question=question, vip=facts.vip, verdict=verdict, answer=fault, advice=advice.NIC)
    source = facts.nic.source if facts.nic is not None else ""
    return Step(question=question, vip=facts.vip, verdict="yes", answer=f"{facts.placed.nic} ({source})")


def _holder(case: Case, facts: VipFacts, instants: Instants, *, nowhere: bool) -> Step:
    """`nowhere`: it was said already why it can be held by nobody."""
    question = "Who holds it?"
    if facts.permit_until is not None:
        answer = f"{facts.node} ({facts.holder or 'by its Lease'}), until {instants.text(facts.permit_until)} unless renewed"
        return Step(question=question, vip=facts.vip, verdict="yes", answer=answer)
    if facts.elsewhere:
        who = facts.holding_node
        detail = f" ({facts.holder})" if facts.holder != who else ", which is no kvip by its identity"
        return Step(question=question, vip=facts.vip, verdict="yes", answer=f"{who}{detail}" if who else standing.NOT_A_MEMBER)
    state, reason = judge(facts, unready=unready(case.header) if case.header is not None else "")
    held = facts.marked is not None or state == "conflict"
    if nowhere and not held:
        reason = "nobody"
    return Step(
        question=question, vip=facts.vip, verdict="no" if not held else "wait", answer=reason, advice=advice.for_pending(case.header, facts)
    )


def _bound(facts: VipFacts, instants: Instants) -> Step:
    marked = facts.marked
    if marked is None:
        return Step(question="Bound?", vip=facts.vip, verdict="no", answer="not in the kernel", advice=advice.WATCH)
    address = marked.address
    until = f"until {instants.text(marked.expires_at)} unless refreshed" if marked.expires_at is not None else "for ever"
    answer = (
        f"{address.ip}/{address.prefix_len} on {standing.nic_name(address.index, facts.links)}, mark 0x{address.proto:x}, valid {until}"
    )
    return Step(question="Bound?", vip=facts.vip, verdict="yes", answer=answer)


def _announced(facts: VipFacts, reason: str, instants: Instants, *, refresh_s: float) -> Step:
    question = "Announced?"
    if facts.announced_at is None:
        return Step(question=question, vip=facts.vip, verdict="wait", answer=reason, advice=advice.WATCH)
    again = f"every {refresh_s:g} s" if refresh_s else "no more"
    first, last = instants.text(facts.announced_at), instants.text(facts.last_sent_at)
    answer = f"since {first}; last {last}, {facts.rounds} times in this burst, then {again}"
    return Step(question=question, vip=facts.vip, verdict="yes", answer=answer)


def _status(case: Case, service: Service, wish: Wish, facts: VipFacts) -> Step:
    question = "In the Service's status?"
    entry = next((each for each in service.ingress if _is(each, facts.vip)), None)
    if entry is not None:
        mode = f", ipMode {entry.ip_mode}" if entry.ip_mode else ""
        return Step(
            question=question,
            vip=facts.vip,
            verdict="yes",
            answer=f"yes{mode}{' (the address came from there)' if wish.from_status else ''}",
        )
    if not case.writes_status:
        return Step(question=question, vip=facts.vip, verdict="yes", answer="no: disable-service-updates is set")
    held = facts.elsewhere
    answer = f"not yet: {facts.holding_node or 'the holder'} has announced nothing" if held else "not yet: the write is on its way"
    return Step(question=question, vip=facts.vip, verdict="wait", answer=answer, advice=advice.HOLDER if held else advice.STATUS)


def _is(entry: Ingress, vip: Vip) -> bool:
    try:
        return parse(entry.ip) == vip
    except ValueError:
        return False
