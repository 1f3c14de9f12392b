"""Documents for the page: a night at which something is wrong, none at all, and a crowd of any size."""

from datetime import UTC, datetime, timedelta

import msgspec

from kvip.observe.state import ChangeView, Header, ServiceView, StateView, VipView

WALL = datetime(2026, 11, 28, 2, 0, tzinfo=UTC)
ME, OTHER = "n1_618c151db3e0439c3169e78d241db3d5", "n2_299d768f6efe22d6f5de2182d80b7c66"
HEADER = Header(
    version="0.1.0",
    node="n1",
    election="claims",
    incarnation=ME,
    epoch=1,
    valid_until="",
    valid_s=2.4,
    blocked="",
    fencing="switch",
    nics=("eth0",),
    synced={"services": True, "endpointslices": True, "nodes": True},
    loop_lag_s=0.0012,
)
HERE = {"holder": ME, "node": "n1", "nic": "eth0", "bound": True, "permit": 2.4, "since": 9_720, "last": 12}


def instant(before_s):
    """So many seconds before the view; None = never."""
    return "" if before_s is None else (WALL - timedelta(seconds=before_s)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def vip(address, state, *services, reason="", holder="", node="", nic="", bound=False, permit=None, since=None, last=None, conflict=""):
    return VipView(
        vip=address,
        state=state,
        reason=reason,
        services=tuple(ServiceView(service=name, uid=f"{name}-uid", generation=1, since=instant(600)) for name in services),
        node=node,
        holder=holder,
        since=instant(since),
        permit_until=instant(None if permit is None else -permit),
        bound=bound,
        nic=nic,
        expires_at=instant(-41) if bound else "",
        announced_since=instant(since) if state == "announced" else "",
        last_announced=instant(last),
        rounds=12 if bound else 0,
        conflict=conflict,
    )


def announced(address, *services, **more):
    return vip(address, "announced", *services, **{**HERE, **more})


def elsewhere(address, *services):
    return vip(address, "held-elsewhere", *services, reason="n2 holds it", holder=OTHER, node="n2")


def change(kind, before_s, address="", *services, detail="", more=0):
    return ChangeView(
        at=instant(before_s),
        until=instant(before_s),
        change=kind,
        vips=(address,) if address else (),
        more=more,
        services=tuple(services),
        detail=detail,
    )


NIGHT = StateView(
    at=instant(0),
    daemon=HEADER,
    changes=(
        change("able", 9_900),
        change("adopted", 9_720, "10.10.0.200", "default/web", detail="eth0", more=6),
        change("announced", 9_720, "10.10.0.200", "default/web", detail="eth0", more=6),
        change("swept", 9_719, "10.10.0.199", "default/former", detail="left behind by a former daemon"),
        change("fenced", 4_211, detail="renew deadline"),
        change("api-back", 4_202),
        change("able", 4_201),
        change("announced", 4_201, "10.10.0.200", "default/web", detail="eth0", more=6),
        change("released", 1_830, "10.10.0.215", "shop/old-cart", detail="no claimant"),
        change("announced", 920, "fd00:10::200", "default/web", detail="eth0"),
        change("conflict", 187, "10.10.0.207", "shop/cart", detail="the host 02:00:00:00:00:99 has it (eth0)"),
        change("refused", 64, "10.10.0.209", "media/stream", detail="errno 105 No buffer space available"),
    ),
    vips=(
        announced("10.10.0.200", "default/web", since=4_201),
        announced("10.10.0.201", "default/db", since=4_201, last=33),
        announced("10.10.0.202", "shop/front", "shop/front-udp", since=4_201, last=51),
        announced("10.10.0.203", "shop/api", since=4_201, last=4),
        elsewhere("10.10.0.204", "media/ingest"),
        elsewhere("10.10.0.205", "media/edge"),
        elsewhere("10.10.0.206", "kube-system/registry"),
        vip(
            "10.10.0.207",
            "conflict",
            "shop/cart",
            reason="the host 02:00:00:00:00:99 has the address too; not bound until that host gives it up",
            conflict="02:00:00:00:00:99",
        ),
        elsewhere("10.10.0.208", "media/transcode"),
        vip(
            "10.10.0.209",
            "pending",
            "media/stream",
            reason="the kernel of n1 does not bind it: errno 105 No buffer space available",
            since=64,
        ),
        announced("10.10.0.210", "ops/grafana", since=4_201, last=27),
        elsewhere("10.10.0.211", "ops/loki"),
        vip(
            "10.10.0.212",
            "releasing",
            "ops/tempo",
            reason="n1 may not hold it now",
            bound=True,
            nic="eth0",
            holder=OTHER,
            node="n2",
        ),
        elsewhere("10.10.0.213", "ops/alerts"),
        announced("fd00:10::200", "default/web", since=920, last=19),
        elsewhere("fd00:10::204", "media/ingest"),
        vip("10.10.0.2OO", "invalid", "default/typo", reason="is not an IP address; not bound"),
    ),
)
THREE = msgspec.structs.replace(NIGHT, vips=NIGHT.vips[:3], changes=())
NONE = msgspec.structs.replace(NIGHT, vips=(), changes=())
HOSTILE = "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
BIDI = "\u202etxt.exe\u2066\u200b\x1b[31m"


def crowd(size):
    """So many VIPs: half of them announced here, half elsewhere, and one conflict in the middle."""
    rows = []
    for number in range(size):
        address, service = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"team-{number % 97}/service-{number}"
        if number == size // 2:
            rows.append(
                vip(address, "conflict", service, reason="the host 02:00:00:00:00:99 has the address too", conflict="02:00:00:00:00:99")
            )
        else:
            rows.append(announced(address, service, last=number % 60) if number % 2 else elsewhere(address, service))
    return msgspec.structs.replace(NIGHT, vips=tuple(rows))


def hostile():
    """Names and reasons of somebody who means harm."""
    bad = vip(HOSTILE, "invalid", f"{HOSTILE}/{BIDI}", reason=f"{HOSTILE} {BIDI}", node=HOSTILE, holder=HOSTILE, nic=HOSTILE)
    odd = vip(BIDI, "pending", "default/odd", reason=BIDI)
    unknown = msgspec.structs.replace(bad, vip="10.0.0.1", state="constructor")
    told = change("conflict", 1, HOSTILE, HOSTILE, detail=f"{HOSTILE} {BIDI}")
    alien = msgspec.structs.replace(told, change="toString")
    header = msgspec.structs.replace(
        HEADER, node=HOSTILE, nics=(HOSTILE,), fencing=HOSTILE, unready=f"{HOSTILE} {BIDI}", synced={HOSTILE: False}
    )
    return StateView(at=instant(0), daemon=header, vips=(bad, odd, unknown), changes=(told, alien))
