"""Whatever an API server sends, or somebody who may write an object writes into it: a record, or the documented errors, in bounded time."""

import json

import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from kvip.core.addresses import Surroundings, addresses_of
from kvip.core.desired import Rules, interpret
from kvip.core.objects import EndpointSlice, Lease, ManagedService, Node, Service
from kvip.core.siting import NodeRules, exclusion, gather
from kvip.core.strays import addresses_in
from kvip.kube.decode import DecodeError, EnvelopeError, ObjectDecoder

KINDS = (Service, ManagedService, EndpointSlice, Node, Lease)
NAMES = st.sampled_from(
    [
        "type",
        "object",
        "metadata",
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "annotations",
        "labels",
        "spec",
        "status",
        "ports",
        "port",
        "protocol",
        "loadBalancer",
        "ingress",
        "ip",
        "ipMode",
        "addresses",
        "address",
        "endpoints",
        "nodeName",
        "conditions",
        "ready",
        "taints",
        "key",
        "unschedulable",
        "holderIdentity",
        "leaseDurationSeconds",
        "leaseTransitions",
        "managedFields",
        "fieldsV1",
        "f:status",
        "generation",
        "ipFamilies",
        "clusterIP",
        "loadBalancerIP",
        "items",
        "continue",
        "code",
    ]
)
WORDS = st.sampled_from(
    ["LoadBalancer", "ADDED", "DELETED", "BOOKMARK", "ERROR", "192.0.2.7", "Local", "IPv6", "kube-vip.io/loadbalancerIPs"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | WORDS | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | WORDS, inner, max_size=6),
    max_leaves=25,
)
DEEP = 100_000


METADATA = st.fixed_dictionaries({"name": st.just("web")}, optional={"annotations": st.dictionaries(WORDS, WORDS), "uid": VALUES})
OBJECTS = st.fixed_dictionaries({"metadata": METADATA}, optional={"spec": VALUES, "status": VALUES, "endpoints": VALUES, "x": VALUES})
"""Shaped as an object, so that most get beyond the envelope."""


def use(item):
    """What the daemon asks of each object first."""
    if isinstance(item, Service):
        wish = interpret(item, Rules(load_balancer_class="x", service_security=True, addresses_from_status=True), Surroundings())
        assert wish.addresses == () or item.spec.type == "LoadBalancer"
        addresses_in(item)
    elif isinstance(item, Node):
        list(addresses_of(item))
        exclusion(item, NodeRules(cordon_hands_over=True))
    elif isinstance(item, EndpointSlice):
        gather([item])


def read_as_each_kind(raw):
    for kind in KINDS:
        note(str(kind))
        read(kind, raw)


def read(kind, raw):
    decoder = ObjectDecoder(kind)
    try:
        page = decoder.page(raw)
    except EnvelopeError:
        page = None
    for item in page.items if page is not None else ():
        use(item)
    for one in (decoder.item, decoder.event):
        try:
            found = one(raw)
        except (DecodeError, EnvelopeError):
            continue
        use(getattr(found, "item", found))


@settings(deadline=None)
@given(raw=st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(raw):
    read_as_each_kind(raw)


@settings(deadline=None)
@given(item=OBJECTS, word=WORDS, other=VALUES)
def test_any_document_is_read_or_refused(item, word, other):
    for document in (item, {"type": word, "object": item}, {"metadata": {"resourceVersion": "1"}, "items": [item, other]}):
        read_as_each_kind(json.dumps(document).encode())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape",
    [
        '{"metadata":{"name":"web"},"unknown":%s}',
        '{"type":"ADDED","object":{"metadata":{"name":"web"},"unknown":%s}}',
        '{"type":"DELETED","object":{"metadata":{"name":"web"},"unknown":%s}}',
        '{"type":"ERROR","object":{"code":410,"unknown":%s}}',
        '{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"},"unknown":%s}}',
        '{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"web"},"unknown":%s}]}',
        "%s",
    ],
)
def test_nesting_without_end_is_read_or_refused(kind, shape):
    for pair in ("[]", None):
        inner = "[" * DEEP + "]" * DEEP if pair else '{"a":' * DEEP + "1" + "}" * DEEP
        read(kind, (shape % inner).encode())


@settings(deadline=None)
@given(text=st.text(max_size=60) | st.text(alphabet="0123456789.,:/%abcdef ", max_size=60))
@example("1," * 5000)
def test_any_text_names_addresses_or_is_told(text):
    metadata = {"name": "web", "annotations": {"kube-vip.io/loadbalancerIPs": text}}
    raw = json.dumps({"metadata": metadata, "spec": {"type": "LoadBalancer"}}).encode()
    read(Service, raw)
