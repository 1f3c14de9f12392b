"""Real devices, as rtnetlink tells of them, and which of them a VIP goes to."""

import asyncio
import subprocess

import pytest

from kvip.core.model import Vip
from kvip.core.placing import NicChoice, place, survey
from kvip.daemon.nic import find_nic
from kvip.errors import ConfigError
from kvip.kernel.links import find_link, read_links
from kvip.kernel.transport import LoopIPRoute
from kvip.settings import Settings

pytestmark = pytest.mark.usefixtures("own_namespace")


async def _read():
    async with LoopIPRoute() as ipr:
        return await read_links(ipr)


def goes_to(name, *, vlan=0):
    choice = NicChoice(source="annotation", value=name, nic=name, vlan=vlan)
    return place(choice, Vip("192.0.2.7"), survey(asyncio.run(_read()), ()))


@pytest.fixture
def device(run_ip):
    """Makes a device by the words of `ip link add`; the test is skipped where this kernel has no such kind."""
    made = []

    def make(name, *words):
        done = subprocess.run(["ip", "link", "add", *words], capture_output=True, text=True, timeout=10, check=False)
        if "Unknown device type" in done.stderr or "not supported" in done.stderr:
            pytest.skip(f"this kernel has no device of the kind {words[words.index('type') + 1]}")
        assert done.returncode == 0, done.stderr
        made.append(name)

    yield make
    for name in reversed(made):
        run_ip("link", "del", name)


def test_a_veth_is_itself_and_as_the_port_of_a_bridge_the_bridge(veth, device, run_ip):
    assert goes_to(veth.name).nic == veth.name
    device("kvbr", "kvbr", "type", "bridge")
    run_ip("link", "set", veth.name, "master", "kvbr")
    placed = goes_to(veth.name)
    assert (placed.nic, placed.port) == ("kvbr", veth.name)
    run_ip("link", "set", veth.name, "nomaster")
    assert goes_to(veth.name).nic == veth.name


def test_a_macvlan_is_itself_with_a_mac_of_its_own(veth, device):
    device("kvmac", "link", veth.name, "name", "kvmac", "type", "macvlan", "mode", "bridge")
    links = asyncio.run(_read())
    macvlan, parent = find_link(links, "kvmac"), find_link(links, veth.name)
    assert (macvlan.kind, macvlan.parent) == ("macvlan", parent.index)
    assert macvlan.mac != parent.mac
    assert goes_to("kvmac").nic == "kvmac"


def test_loopback_is_refused():
    assert "loopback" in goes_to("lo").fault


def test_a_dummy_is_refused(device):
    device("kvdum", "kvdum", "type", "dummy")
    assert "NOARP" in goes_to("kvdum").fault


def test_a_vlan_is_found_by_its_nic_and_id(veth, device):
    assert "make it" in goes_to(veth.name, vlan=200).fault
    device("kvvlan", "link", veth.name, "name", "kvvlan", "type", "vlan", "id", "200")
    assert goes_to(veth.name, vlan=200).nic == "kvvlan"


def test_the_port_of_a_bond_stands_for_the_bond(veth, device, run_ip):
    device("kvbond", "kvbond", "type", "bond", "mode", "active-backup")
    run_ip("link", "set", veth.name, "down")
    run_ip("link", "set", veth.name, "master", "kvbond")
    placed = goes_to(veth.name)
    assert (placed.nic, placed.port) == ("kvbond", veth.name)


def settled(**settings):
    """What the settings lead to: the NIC's name, or the complaint."""
    try:
        return asyncio.run(find_nic(Settings(node_name="n1", **settings)))[1]
    except ConfigError as error:
        return str(error)


def test_the_nic_of_the_settings_may_be_a_port_but_has_to_be_there_and_to_announce(veth, device, run_ip):
    assert settled(interface=veth.name) == veth.name
    assert settled(interface=veth.name, services_interface=veth.peer) == veth.peer
    assert settled(interface="kvnone", services_interface="auto") == ""
    assert "there is no NIC 'kvnone' here" in settled(interface="kvnone")
    assert "services-interface" in settled(services_interface="lo")
    assert "loopback" in settled(services_interface="lo")
    device("kvbr", "kvbr", "type", "bridge")
    run_ip("link", "set", veth.name, "master", "kvbr")
    assert settled(interface=veth.name) == "kvbr"
