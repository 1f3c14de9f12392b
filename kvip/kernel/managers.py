"""Which NICs systemd-networkd and NetworkManager manage, and how.

In: their state files under /run, and networkd's configuration. Out: what they say. It asks neither of them, and keeps nothing.
Both write a file per NIC, named by its index: networkd in /run/systemd/netif/links (sd-network), NetworkManager in
/run/NetworkManager/devices (nm-config.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from kvip.core.doctor.facts import Keeping
from kvip.core.model import Link

_CONFIGURATION = ("etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network")


def networkd(links: Iterable[Link], root: Path) -> dict[str, Keeping]:
    """By NIC: what networkd is set up to keep there; those that it does not manage are left out. `root`: of the host."""
    found: dict[str, Keeping] = {}
    for link in links:
        state = dict(_pairs(_text(root / f"run/systemd/netif/links/{link.index}")))
        file = state.get("NETWORK_FILE", "")
        if file and state.get("ADMIN_STATE") in ("configuring", "configured"):
            found[link.name] = Keeping(file=file, keep=_keep_configuration(file, root))
    return found


def network_manager(links: Iterable[Link], root: Path) -> frozenset[str]:
    """The NICs that NetworkManager manages. `root`: of the host."""
    return frozenset(
        link.name for link in links if dict(_pairs(_text(root / f"run/NetworkManager/devices/{link.index}"))).get("managed") == "true"
    )


def _keep_configuration(file: str, root: Path) -> str:
    """The last KeepConfiguration= of a .network file and its drop-ins: sorted by name, /etc before the others (systemd.network)."""
    name = PurePosixPath(file).name
    dropins: dict[str, Path] = {}
    for directory in reversed(_CONFIGURATION):
        dropins |= {path.name: path for path in (root / directory / f"{name}.d").glob("*.conf")}
    value = ""
    for path in (root / file.lstrip("/"), *(dropins[key] for key in sorted(dropins))):
        for key, text in _pairs(_text(path), section="Network"):
            if key == "KeepConfiguration":
                value = text
    return value


def _pairs(text: str, *, section: str = "") -> Iterator[tuple[str, str]]:
    """key=value lines, of one section or of all."""
    here = not section
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            here = not section or stripped == f"[{section}]"
        elif here and "=" in stripped and stripped[0] not in "#;":
            key, _, value = stripped.partition("=")
            yield key.strip(), value.strip()


def _text(path: Path) -> str:
    """The file's content; one that is not there, or not readable, says nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
