"""Label selectors as Kubernetes reads them, and what users write instead."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.selectors import LONGEST, Preference, matches, parse, parse_preference, tiers

LABELS = {"zone": "a", "disk": "ssd", "example.com/rack": "r1", "empty": ""}


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("zone=a", True),
        ("zone==a", True),
        ("zone = a , disk=ssd", True),
        ("zone=b", False),
        ("zone!=a", False),
        ("zone!=b", True),
        ("absent!=x", True),
        ("zone", True),
        ("absent", False),
        ("!absent", True),
        ("! zone", False),
        ("zone in (a,b)", True),
        ("zone in ( b , c )", False),
        ("zone notin (b)", True),
        ("absent notin (b)", True),
        ("absent in (b)", False),
        ("zone in (a,b),disk notin (hdd),!absent", True),
        ("example.com/rack=r1", True),
        ("empty=", True),
        ("empty in ()", True),
        ("absent=", False),
    ],
)
def test_a_selector_is_met_as_in_kubernetes(text, met):
    assert matches(parse(text), LABELS) is met


@pytest.mark.parametrize(
    "text",
    ["", ",", "zone=a,", "=a", "zone in a", "zone in (a", "zone in a)", "zone=a b", "zone>1", "zone=(a)", "-zone=a", "zo ne", "zone=a=b",
     "zone in (a,b c)", "zone=" + "x" * 64, "x" * 64, "/x=a", "x" * (LONGEST + 1), "zone notin", "!zone=a", "🙂"],
)  # fmt: skip
def test_what_is_no_selector_is_refused_with_the_reason(text):
    with pytest.raises(ValueError, match=r"selector|longer"):
        parse(text)


@given(st.text(alphabet="ab1-_./ =!(),in notx\n", max_size=60) | st.text(max_size=60))
def test_any_text_is_a_selector_or_a_clear_error(text):
    for read in (parse, parse_preference):
        with contextlib.suppress(ValueError):
            read(text)
            continue
        with pytest.raises(ValueError, match=r"^.{1,200}$"):
            read(text)


TERMS = st.tuples(st.sampled_from(["zone", "disk", "other"]), st.sampled_from(["=", "!=", " in ", " notin "]), st.sampled_from("ab"))


@given(st.lists(TERMS, min_size=1, max_size=4), st.dictionaries(st.sampled_from(["zone", "disk", "other"]), st.sampled_from("abc")))
def test_all_terms_must_be_met(terms, labels):
    text = ",".join(f"{key}{op}({value})" if "in" in op else f"{key}{op}{value}" for key, op, value in terms)
    wanted = all((labels.get(key) == value) is (op in ("=", " in ")) for key, op, value in terms)
    assert matches(parse(text), labels) is wanted


@pytest.mark.parametrize(
    ("text", "names"),
    [("n2", ("n2",)), (" n2 ,n1,", ("n2", "n1")), ("n2,n1,n2", ("n2", "n1")), ("node-1.example.com", ("node-1.example.com",))],
)
def test_a_list_of_nodes_keeps_its_order(text, names):
    assert parse_preference(text) == Preference(names=names)


@pytest.mark.parametrize("text", ["N2", "n2 n1", "-n", "n2,n_1"])
def test_a_name_that_no_node_can_have_is_named(text):
    with pytest.raises(ValueError, match="Node names"):
        parse_preference(text)


def test_preferred_nodes_are_tiers_in_order_or_one_tier_of_all_that_match():
    labels = {"n1": {"disk": "ssd"}, "n2": {}, "n3": {"disk": "ssd"}}
    assert tiers(parse_preference("n2,n9"), labels) == ({"n2"}, {"n9"})
    assert tiers(parse_preference("disk=ssd"), labels) == ({"n1", "n3"},)
    assert tiers(Preference(), labels) == ()
