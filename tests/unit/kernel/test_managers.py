"""What networkd and NetworkManager manage, from the files that they write; in the form of Ubuntu 24.04 and Fedora 41."""

import pytest

from kvip.core.doctor.facts import Keeping
from kvip.core.model import IfIndex, Link
from kvip.kernel import managers

ETH0 = Link(index=IfIndex(2), name="eth0", mac=bytes(6), up=True, carrier=True)
ETH1 = Link(index=IfIndex(3), name="eth1", mac=bytes(6), up=True, carrier=True)
NETWORK = "/run/systemd/network/10-netplan-eth0.network"
STATE = f"""# This is private data. Do not parse.
ADMIN_STATE=configured
OPER_STATE=routable
NETWORK_FILE={NETWORK}
"""


@pytest.fixture
def put(tmp_path):
    """Write a file of the host."""

    def write(path, text):
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


def test_a_nic_that_networkd_configured_and_what_it_keeps(put, tmp_path):
    put("/run/systemd/netif/links/2", STATE)
    put(NETWORK, "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\n[DHCP]\nKeepConfiguration=yes\n")
    assert managers.networkd([ETH0, ETH1], tmp_path) == {"eth0": Keeping(file=NETWORK)}
    put(NETWORK, "[Network]\n# KeepConfiguration=no\nKeepConfiguration = dhcp\n")
    assert managers.networkd([ETH0], tmp_path)["eth0"].keep == "dhcp"


def test_the_last_drop_in_counts_and_that_of_etc_hides_others_of_its_name(put, tmp_path):
    put("/run/systemd/netif/links/2", STATE)
    put(NETWORK, "[Network]\nKeepConfiguration=no\n")
    put("/usr/lib/systemd/network/10-netplan-eth0.network.d/a.conf", "[Network]\nKeepConfiguration=yes\n")
    assert managers.networkd([ETH0], tmp_path)["eth0"].keep == "yes"
    put("/etc/systemd/network/10-netplan-eth0.network.d/a.conf", "[Network]\n")
    assert managers.networkd([ETH0], tmp_path)["eth0"].keep == "no"
    put("/run/systemd/network/10-netplan-eth0.network.d/kvip.conf", "[Network]\nKeepConfiguration=static\n")
    assert managers.networkd([ETH0], tmp_path)["eth0"].keep == "static"


@pytest.mark.parametrize("state", ["ADMIN_STATE=unmanaged\nNETWORK_FILE=/x.network\n", "ADMIN_STATE=configured\n", ""])
def test_a_nic_that_networkd_does_not_manage_is_left_out(put, tmp_path, state):
    put("/run/systemd/netif/links/2", state)
    assert managers.networkd([ETH0], tmp_path) == {}


def test_what_network_manager_manages(put, tmp_path):
    put("/run/NetworkManager/devices/2", "[device]\nmanaged=true\nconnection-uuid=x\n")
    put("/run/NetworkManager/devices/3", "[device]\nmanaged=false\n")
    assert managers.network_manager([ETH0, ETH1], tmp_path) == {"eth0"}
