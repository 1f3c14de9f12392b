"""kube-vip's firewall rules: told once, in words that show the way out."""

from kvip import metrics
from kvip.daemon.leftovers import judge
from kvip.kernel.firewall import ToolError
from kvip.kernel.foreign_listings import Leftover

TABLE = Leftover(kind="table", tool="nft", family="ip", table="kube_vip_v4")
RULE = Leftover(kind="rule", tool="iptables-nft", family="ip", table="filter", chain="INPUT", text="INPUT -d 10.0.0.1/32 -j DROP")


def test_what_is_found_is_counted_and_told_with_the_words_that_remove_it(caplog):
    told = []
    judge([TABLE, *[RULE] * 7], [], told.append)
    assert metrics.foreign_rules._value.get() == 8
    (text,) = told
    assert "8 firewall rules" in text
    assert "and 3 more" in text
    assert "kvip sweep --also kube-vip-iptables,nft:ip:kube_vip_v4" in text
    assert "left alone" in caplog.text


def test_nothing_found_is_nothing_told_and_a_tool_that_failed_is_logged(caplog):
    caplog.set_level("INFO")
    told = []
    judge([], [ToolError("nft", "is not installed here", missing=True)], told.append)
    assert told == []
    assert metrics.foreign_rules._value.get() == 0
    assert "could not be looked for" in caplog.text
