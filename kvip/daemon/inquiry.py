"""What a running daemon knows of its VIPs and of one Service, gathered for those who ask.

Input: the parts. Output: `VipFacts`, and `Case` for an explanation. It must not change anything, nor decide: it asks the parts, as the
reconcile loop does.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvip.core import siting
from kvip.core.desired import is_ours, named
from kvip.core.model import ServiceKey, Vip
from kvip.daemon.parts import Parts
from kvip.observe.explaining import Case
from kvip.observe.standing import VipFacts
from kvip.observe.state import Header, Instants, VipView, row, unmet


def vips(parts: Parts) -> tuple[Vip, ...]:
    """Every VIP that a Service asks for, and every marked address that none does."""
    return tuple({**dict.fromkeys(parts.ledger.vips()), **dict.fromkeys(parts.facts.marked())})


def services(parts: Parts) -> tuple[ServiceKey, ...]:
    """Every Service."""
    return tuple(map(ServiceKey, parts.caches.services.store))


def unmet_of(parts: Parts, key: ServiceKey) -> Iterator[VipView]:
    """What one Service of ours asks for and does not get."""
    service, wish = parts.caches.services.store.get(key), parts.desire.sharing.wish(key)
    if service is not None and wish is not None and is_ours(service, parts.rules):
        yield from unmet(wish, parts.desire.sharing.clashes_of(wish))


def row_of(parts: Parts, vip: Vip, instants: Instants, *, unready: str) -> VipView:
    """One VIP as the state view shows it."""
    return row(facts_of(parts, vip), instants, unready=unready)


def facts_of(parts: Parts, vip: Vip) -> VipFacts:
    """What this node knows of one VIP."""
    elector, nics, desire = parts.elected(), parts.nics, parts.desire
    claimants = tuple(parts.ledger.claimants(vip).values())
    choice = desire.choose(vip) if claimants else siting.Choice()
    rounds, last_sent_at = parts.announcer.sent(vip)
    link = nics.link(vip)
    return VipFacts(
        vip=vip,
        node=parts.settings.node_name,
        claimants=claimants,
        known=desire.known,
        permit_until=elector.permit(vip),
        holder=elector.holder(vip),
        elsewhere=elector.elsewhere(vip),
        bound=() if parts.facts.unconfirmed(vip) else parts.facts.bound(vip),
        bound_at=parts.outcome.bound_since(vip),
        announced_at=parts.outcome.announced_since(vip),
        rounds=rounds,
        last_sent_at=last_sent_at,
        mac=parts.disputes.watch.conflicting(vip),
        choice=choice,
        shortage=_shortage(parts, vip) if choice.nodes == frozenset() else "",
        nic=nics.choice(vip) if claimants else None,
        placed=nics.placed(vip),
        links=parts.facts.links,
        exposed=parts.firewall.exposed(vip),
        unprobed=link is not None and parts.disputes.probing.unprobed(vip, link),
        failure=parts.reconcile.turn.failure(vip),
    )


def _shortage(parts: Parts, vip: Vip) -> str:
    reasons = (parts.desire.whereabouts.shortage(wish) for wish in parts.desire.sharing.claimants(vip))
    return next(filter(None, reasons), "")


def case_of(parts: Parts, key: ServiceKey, header: Header) -> Case:
    """All that bears on one Service."""
    desire = parts.desire
    service = parts.caches.services.store.get(key)
    vips: dict[Vip, None] = dict.fromkeys(parts.ledger.claims_of(key))
    if service is not None:
        vips |= named(service, parts.rules)
    wish = desire.sharing.wish(key)
    return Case(
        key=key,
        service=service,
        header=header,
        rules=parts.rules,
        surroundings=desire.surroundings,
        rivals={vip: desire.sharing.asking(vip) for vip in vips},
        facts={vip: facts_of(parts, vip) for vip in vips},
        objections=desire.objections(wish) if wish is not None else (),
        writes_status=not parts.settings.disable_service_updates,
        refresh_s=parts.settings.refresh_interval_s,
    )
