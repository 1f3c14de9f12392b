"""What the tests of `kvip sweep` share: rules of kvip and of others, and short ways to look."""

import json
import subprocess

from kvip.kernel.batches import AddressOp, vip_address

COMMENT = "a3ViZS12aXAK=kube-vip-kube-system"
OWN_TABLES = "".join(f"table {name} {{\n chain x {{\n}}\n}}\n" for name in ("arp kvip", "inet kvip", "netdev kvip", "inet kvip-services"))
OTHER_TABLES = (
    "table ip kvip {\n chain x {\n}\n}\ntable inet kviper {\n chain x {\n}\n}\ntable ip kvip-services {\n chain x {\n}\n}\n"
    'table ip raw {\n chain mine {\n tcp dport 22 counter accept comment "mine"\n}\n}\n'
)
KUBE_VIP_NFT = f"""table ip mangle {{
 chain KUBE-VIP-EGRESS {{
  ip daddr 10.0.0.0/16 counter return comment "{COMMENT} - 10.0.0.0/16"
 }}
 chain PREROUTING {{ type filter hook prerouting priority mangle; policy accept;
  counter jump KUBE-VIP-EGRESS comment "{COMMENT}"
  meta mark 5 accept
 }}
}}
table ip kube_vip_v4 {{
 chain kube_vip_snat_abc {{ type nat hook postrouting priority srcnat; policy accept;
  ip saddr 10.0.0.5 snat to 10.9.9.9
 }}
}}
"""


def nft(*arguments, script=""):
    return subprocess.run(["nft", *arguments], input=script, capture_output=True, text=True, timeout=10, check=True).stdout


def add(addresses, index, *vips):
    results = addresses.apply([AddressOp(kind="add", address=vip_address(vip, index, valid_s=60)) for vip in vips])
    assert {result.errno for result in results} == {0}


def on(addresses, index):
    return {f"{address.ip}/{address.prefix_len}" for address in addresses.dump() if address.index == index}


def picture(addresses):
    """Everything that a sweep could change, lifetimes and counters left out."""
    found = sorted((a.ip, a.prefix_len, a.index, a.proto, a.flags, a.valid_s is None) for a in addresses.dump())
    return found, nft("-a", "-s", "list", "ruleset")


def of(rows, kind):
    return {row["what"]: row["result"] for row in rows if row["kind"] == kind}


VIPS = ["10.1.0.7", "10.1.0.8", "2001:db8::7"]


def list_tables():
    return [entry["table"] for entry in json.loads(nft("-j", "list", "tables"))["nftables"] if "table" in entry]
