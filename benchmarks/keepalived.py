"""keepalived beside kvip: how fast each announces the same addresses once, on the same wire.

In: the program, or a way of kvip's; addresses. Out: frames/s from the first gratuitous ARP to the last, by the kernel's time stamps at the
other end of the wire. What comes before that, binding the addresses, is not counted.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.nics import NIC, PEER, run
from kvip.core.model import Vip
from lab.netns import NetNamespace
from lab.sniffer import Sniffer

TIMEOUT_S = 20.0

_CONFIGURATION = """
global_defs {{
    vrrp_garp_master_delay 60
    vrrp_garp_master_repeat 1
    vrrp_garp_interval 0
}}
vrrp_instance benchmark {{
    state MASTER
    interface {nic}
    virtual_router_id 51
    priority 255
    advert_int 1
    virtual_ipaddress {{
        {first}/32
    }}
    virtual_ipaddress_excluded {{
        {others}
    }}
}}
"""


def ready_wire() -> None:
    """keepalived refuses NICs without ARP; for all alike, so that none is measured on an easier one."""
    for nic in (NIC, PEER):
        run("ip", "link", "set", nic, "arp", "on")
    run("ip", "address", "replace", "172.31.0.1/24", "dev", NIC)


def kvip_rate(way: Callable[[], object], names: Sequence[Vip]) -> float:
    """Let it send; frames/s of that burst. Raises RuntimeError when it announced too little."""
    with Sniffer(NetNamespace.current(), PEER, vips=names) as sniffer:
        way()
        return _rate(sniffer, names, lambda: "kvip announced too little")


def burst_rate(program: str, names: Sequence[Vip], directory: Path) -> float:
    """Start it, wait until every address was announced, end it; frames/s of that burst. Raises RuntimeError with its log after 20 s."""
    text = _CONFIGURATION.format(nic=NIC, first=names[0], others="\n        ".join(f"{vip}/32" for vip in names[1:]))
    path = directory / "keepalived.conf"
    path.write_text(text)
    command = [
        program,
        "--dont-fork",
        "--log-console",
        "--vrrp",
        f"--use-file={path}",
        f"--pid={directory}/pid",
        f"--vrrp_pid={directory}/vrrp",
    ]
    with Sniffer(NetNamespace.current(), PEER, vips=names) as sniffer, (directory / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            rate = _rate(sniffer, names, lambda: f"keepalived announced too little: {(directory / 'log').read_text()[-2_000:]}")
        finally:
            child.terminate()
            child.wait(10)
    for vip in names:
        subprocess.run(["ip", "address", "delete", f"{vip}/32", "dev", NIC], check=False, capture_output=True, timeout=10)
    return rate


def _rate(sniffer: Sniffer, names: Sequence[Vip], problem: Callable[[], str]) -> float:
    deadline = time.monotonic() + TIMEOUT_S
    while len({frame.claimed for frame in sniffer.frames if frame.announcement}) < len(names):
        if time.monotonic() > deadline:
            raise RuntimeError(problem())
        time.sleep(0.1)
    at = [frame.at_s for frame in sniffer.frames if frame.announcement]
    return (len(at) - 1) / (max(at) - min(at))
