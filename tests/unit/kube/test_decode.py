import json

import pytest

from kvip.core.objects import EndpointSlice, Lease, ManagedService, Node, Service
from kvip.kube.decode import Bookmark, Change, DecodeError, EnvelopeError, Failure, ObjectDecoder, Removal
from tests.unit.kube.kube_server import bookmark, event, listing, service, status


def raw(value) -> bytes:
    return json.dumps(value).encode()


def test_a_service_is_read_with_unknown_fields_skipped_and_nulls_allowed():
    item = service("web", 7, annotations=None, managedFields=[{"manager": "x"}])
    item["spec"] = {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1", "loadBalancerClass": None, "x": [1], "ipFamilies": ["IPv4"]}
    item["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP", "ports": []}]}}
    found = ObjectDecoder(Service).item(raw(item))
    assert (found.metadata.name, found.metadata.annotations) == ("web", None)
    assert (found.spec.load_balancer_ip, found.spec.ip_families) == ("192.0.2.1", ("IPv4",))
    assert found.ingress[0].ip_mode == "VIP"


def test_lease_times_may_be_null():
    spec = {"holderIdentity": "a", "acquireTime": None, "renewTime": "2026-11-24T02:00:00.000000Z", "leaseTransitions": None}
    found = ObjectDecoder(Lease).item(raw({"metadata": {"name": "l"}, "spec": spec}))
    assert (found.spec.acquire_time, found.spec.renew_time) == (None, "2026-11-24T02:00:00.000000Z")


def test_nodes_and_slices_are_read():
    node = ObjectDecoder(Node).item(
        raw({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}})
    )
    assert node.status.addresses[0].address == "10.0.0.1"
    found = ObjectDecoder(EndpointSlice).item(
        raw({"metadata": {"name": "s"}, "endpoints": [{"nodeName": "n", "conditions": {"ready": True}}]})
    )
    assert found.endpoints[0].node_name == "n"
    assert ObjectDecoder(EndpointSlice).item(raw({"metadata": {"name": "s"}, "endpoints": None})).endpoints is None


def test_a_bad_object_names_itself():
    with pytest.raises(DecodeError) as caught:
        ObjectDecoder(Service).item(raw(service("web", 7, spec={"ports": 5})))
    assert (caught.value.key, caught.value.uid, caught.value.resource_version) == ("default/web", "uid-web", "7")
    assert "default/web" in str(caught.value)


def test_a_bad_object_without_a_readable_name_is_still_one_error():
    with pytest.raises(DecodeError) as caught:
        ObjectDecoder(Service).item(b'{"metadata":{"name":5}}')
    assert caught.value.key == ""


def test_an_object_without_a_name_is_an_error():
    with pytest.raises(DecodeError):
        ObjectDecoder(Service).item(b'{"metadata":{}}')


def test_a_bad_item_leaves_the_rest_of_its_list_alone():
    page = ObjectDecoder(Service).page(raw(listing(9, service("a", 1), service("b", 2, spec=[]), service("c", 3), token="t")))
    assert [item.metadata.name for item in page.items] == ["a", "c"]
    assert [error.key for error in page.broken] == ["default/b"]
    assert (page.resource_version, page.token) == ("9", "t")


def test_a_nameless_item_of_a_good_shape_is_broken_too():
    page = ObjectDecoder(Service).page(raw(listing(9, service("", 1), service("c", 3))))
    assert ([item.metadata.name for item in page.items], len(page.broken)) == (["c"], 1)


def test_a_list_of_null_is_empty():
    assert ObjectDecoder(Service).page(b'{"metadata":{"resourceVersion":"3"},"items":null}').items == ()


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"items":{}}', b'{"metadata":{},"items":[}', b"\xff\xfe"])
def test_what_is_no_list_is_refused_whole(body):
    with pytest.raises(EnvelopeError):
        ObjectDecoder(Service).page(body)


def test_events_are_told_apart():
    decoder = ObjectDecoder(Service)
    changed = decoder.event(raw(event("MODIFIED", service("a", 5))))
    assert isinstance(changed, Change)
    assert changed.item.metadata.resource_version == "5"
    assert decoder.event(raw(event("DELETED", service("a", 6, spec="bad")))) == Removal("default/a", "uid-a", "6")
    assert decoder.event(raw(bookmark(8))) == Bookmark("8", False)
    assert decoder.event(raw(bookmark(8, initial_end=True))) == Bookmark("8", True)
    assert decoder.event(raw(event("ERROR", status(410, "Expired", "too old")))) == Failure(410, "Expired", "too old")


@pytest.mark.parametrize(
    "line", [b"nonsense", b"{}", b'{"type":"NEW","object":{}}', b'{"type":"ADDED"}', b'{"type":"BOOKMARK","object":{}}']
)
def test_a_line_that_is_no_event_is_refused(line):
    with pytest.raises(EnvelopeError):
        ObjectDecoder(Service).event(line)


def test_who_wrote_the_status_is_decoded_where_it_is_asked_for():
    fields = {"f:status": {"f:loadBalancer": {"f:ingress": {}}}, "f:spec": {"f:ports": {'k:{"port":80}': {".": {}}}}}
    entries = [{"manager": "ipam", "operation": "Update", "subresource": "status", "fieldsV1": fields}, {"manager": "kubectl"}]
    plain = service("a", 5)
    plain["metadata"]["managedFields"] = entries
    found = ObjectDecoder(ManagedService).item(raw(plain))
    assert [(each.manager, each.owns_ingress) for each in found.metadata.managed_fields] == [("ipam", True), ("kubectl", False)]
    assert not hasattr(ObjectDecoder(Service).item(raw(plain)).metadata, "managed_fields")


def test_taints_and_cordon_of_a_node_are_decoded():
    found = ObjectDecoder(Node).item(
        b'{"metadata":{"name":"n1"},"spec":{"unschedulable":true,"taints":[{"key":"a","effect":"NoSchedule"}]}}'
    )
    assert (found.spec.unschedulable, [taint.key for taint in found.spec.taints]) == (True, ["a"])
