"""`kvip manifest`: settings become the environment of a Pod that may do what it needs and nothing more."""

import pytest

from kvip.cli import manifest
from kvip.cli.main import main as command
from kvip.config import load
from kvip.core.rights import EVERYWHERE, Rule, rules_for
from kvip.options import OPTIONS
from kvip.settings import Settings
from lab.shipped import objects_of

SAMPLES = {"text": "eth7", "switch": "true", "number": "2", "integer": "100"}
OVERRIDES = {
    "allow-cidr": "192.0.2.0/24",
    "kubeconfig": "/etc/kube.conf", "metrics-address": "127.0.0.1:9", "lease-duration": "20", "state-dir": "/var/kvip", "members": "n1",
    "socket": "/run/x/s", "stray-ranges": "10.0.0.0/8", "retry-period": "1.5", "election": "global", "health-check-port": "10256",
}  # fmt: skip


def printed(capsys, *argv):
    assert command(["manifest", *argv]) == 0
    text = capsys.readouterr().out
    assert "&id" not in text, "anchors are for machines"
    return objects_of(text)


def container(item):
    spec = item["spec"]["template"]["spec"] if item["kind"] == "DaemonSet" else item["spec"]
    return spec, spec["containers"][0]


def environment(item):
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(item)[1]["env"]}


def test_daemonset_has_the_least_privilege_that_works(capsys):
    (item,) = printed(capsys, "daemonset", "--image", "example.com/kvip:1")
    spec, main = container(item)
    assert (spec["hostNetwork"], spec["priorityClassName"]) == (True, "system-node-critical")
    assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert main["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
    assert (main["securityContext"]["readOnlyRootFilesystem"], main["securityContext"]["allowPrivilegeEscalation"]) == (True, False)
    assert main["image"] == "example.com/kvip:1"
    assert item["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] == 0
    assert {toleration["operator"] for toleration in spec["tolerations"]} == {"Exists"}
    assert spec["volumes"] == [{"name": "state", "hostPath": {"path": "/run/kvip", "type": "DirectoryOrCreate"}}]
    assert (main["livenessProbe"]["httpGet"], main["readinessProbe"]["httpGet"]) == (
        {"path": "/healthz", "port": 2112},
        {"path": "/readyz", "port": 2112},
    )


def test_daemonset_names_each_node_by_its_object(capsys):
    (item,) = printed(capsys, "daemonset")
    assert environment(item) == {"KVIP_NODE_NAME": {"fieldRef": {"fieldPath": "spec.nodeName"}}}


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.name != "node-name"], ids=lambda option: option.name)
def test_every_setting_becomes_environment_that_means_the_same(capsys, option):
    text = OVERRIDES.get(option.name, option.choices[-1] if option.choices else SAMPLES[option.kind])
    (item,) = printed(capsys, "daemonset", f"{option.flag}={text}")
    given = {name: value for name, value in environment(item).items() if isinstance(value, str)}
    assert given == {option.variable: text}
    there = load([], given, files=manifest._NodesFiles(), hostname="n1").settings
    here = load([f"{option.flag}={text}"], {}, files=manifest._NodesFiles(), hostname="n1").settings
    assert there == here


def test_namespace_and_state_dir_are_where_the_objects_are(capsys):
    (item,) = printed(capsys, "daemonset", "--namespace", "net", "--state-dir", "/var/lib/kvip")
    assert item["metadata"]["namespace"] == "net"
    assert container(item)[1]["volumeMounts"] == [{"name": "state", "mountPath": "/var/lib/kvip"}]


def mounted(item):
    spec, main = container(item)
    paths = {volume["name"]: volume["hostPath"] for volume in spec["volumes"] if "hostPath" in volume}
    return {mount["mountPath"]: paths.get(mount["name"], {}).get("path") for mount in main["volumeMounts"]}


@pytest.mark.parametrize("kind", ["daemonset", "static-pod"])
@pytest.mark.parametrize("socket", ["/run/kvip-socket/kvip.sock", "/tmp/kvip/s", "/run/kvipx/s", "//run//x/../y/s"])
def test_the_folder_of_a_socket_elsewhere_is_the_host_s(capsys, kind, socket):
    (item,) = printed(capsys, kind, "--socket", socket)
    folder = {"//run//x/../y/s": "/run/y"}.get(socket, socket.rpartition("/")[0])
    assert mounted(item)[folder] == folder
    assert len(mounted(item)) == (2 if kind == "daemonset" else 4)


@pytest.mark.parametrize("socket", ["/run/kvip/s", "/run/kvip/a/s", "off", "/run//kvip/s"])
def test_a_socket_in_the_state_s_folder_or_none_needs_no_other(capsys, socket):
    (item,) = printed(capsys, "daemonset", "--socket", socket)
    assert mounted(item) == {"/run/kvip": "/run/kvip"}


@pytest.mark.parametrize("socket", ["/kvip.sock", "/run/kvip.sock", "/var/run/kvip.sock", "/tmp/kvip.sock", "/run/kvip/../kvip.sock"])
def test_a_socket_for_which_a_folder_of_all_programs_would_be_mounted_is_refused(capsys, socket):
    assert command(["manifest", "daemonset", "--socket", socket]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert repr(socket) in shown.err
    assert "folder of its own, such as /" in shown.err
    assert command(["manifest", "rbac", "--socket", socket]) == 0


@pytest.mark.parametrize(("address", "probed"), [("127.0.0.1:9", "127.0.0.1"), ("0.0.0.0:9", None), ("[::]:9", None), (":9", None)])
def test_probes_go_where_the_daemon_listens(capsys, address, probed):
    (item,) = printed(capsys, "daemonset", "--metrics-address", address)
    probe = container(item)[1]["livenessProbe"]["httpGet"]
    assert (probe.get("host"), probe["port"]) == (probed, 9)


def test_without_a_listener_there_are_no_probes(capsys):
    (item,) = printed(capsys, "daemonset", "--metrics-address", "off")
    assert not {"livenessProbe", "readinessProbe"} & container(item)[1].keys()
    (item,) = printed(capsys, "daemonset", "--metrics-address", "off", "--health-check-port", "10256")
    assert container(item)[1]["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": 10256}
    assert "readinessProbe" not in container(item)[1]


def test_static_pod_has_a_kubeconfig_and_no_service_account(capsys):
    (item,) = printed(capsys, "static-pod", "--interface", "eth0")
    spec, main = container(item)
    assert item["kind"] == "Pod"
    assert spec["automountServiceAccountToken"] is False
    assert environment(item)["KVIP_KUBECONFIG"] == "/etc/kubernetes/admin.conf"
    assert {"name": "kubeconfig", "mountPath": "/etc/kubernetes/admin.conf", "readOnly": True} in main["volumeMounts"]
    assert {"name": "tmp", "mountPath": "/tmp"} in main["volumeMounts"]


def test_one_node_name_for_all_nodes_is_refused(capsys):
    assert command(["manifest", "daemonset", "--node-name", "n1"]) == 2
    assert "node-name" in capsys.readouterr().err
    (item,) = printed(capsys, "static-pod", "--node-name", "n1")
    assert environment(item)["KVIP_NODE_NAME"] == "n1"


def test_a_setting_that_cannot_be_used_is_refused_before_anything_is_printed(capsys):
    assert command(["manifest", "daemonset", "--lease-duration", "3"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "renew-deadline" in shown.err


def test_rbac_grants_the_daemonsets_account_the_rules(capsys):
    account, role, binding, local, local_binding = printed(capsys, "rbac", "--namespace", "net")
    assert (account["kind"], account["metadata"]) == ("ServiceAccount", {"name": "kvip", "namespace": "net"})
    assert (role["kind"], local["kind"], local["metadata"]["namespace"]) == ("ClusterRole", "Role", "net")
    for one in (binding, local_binding):
        assert one["subjects"] == [{"kind": "ServiceAccount", "name": "kvip", "namespace": "net"}]
    (item,) = printed(capsys, "daemonset")
    assert container(item)[0]["serviceAccountName"] == account["metadata"]["name"]


FOLLOW = ("list", "watch")
LEASES = Rule(group="coordination.k8s.io", resources=("leases",), verbs=("get", *FOLLOW, "create", "update"))
EVENTS = Rule(resources=("events",), verbs=("create",))
NODES = Rule(resources=("nodes",), verbs=FOLLOW)
SERVICES = (
    Rule(resources=("services",), verbs=FOLLOW),
    Rule(group="discovery.k8s.io", resources=("endpointslices",), verbs=FOLLOW),
    Rule(resources=("services/status",), verbs=("patch",)),
)
PATCH_SERVICES = Rule(resources=("services",), verbs=("patch",))
BASE = {EVERYWHERE: (NODES, *SERVICES, EVENTS), "kube-system": (LEASES,)}


def granted(**settings):
    return {namespace: set(rules) for namespace, rules in rules_for(Settings(**settings)).items()}


def flat(rules):
    return {namespace: set(some) for namespace, some in rules.items()}


@pytest.mark.parametrize("election", ["claims", "global"])
def test_the_base_role_is_the_documented_one(election):
    assert granted(election=election) == flat(BASE)


@pytest.mark.parametrize("settings", [{"election": "per-service"}, {"election": "global", "per_service_on_demand": True}])
def test_leases_of_services_need_leases_in_all_namespaces(settings):
    assert granted(**settings) == flat({EVERYWHERE: (*BASE[EVERYWHERE], LEASES)})


def test_the_annotation_of_the_host_needs_services_patched():
    assert granted(vip_host_annotation=True) == flat({**BASE, EVERYWHERE: (*BASE[EVERYWHERE], PATCH_SERVICES)})


def test_who_writes_no_status_may_not():
    assert granted(disable_service_updates=True, vip_host_annotation=True) == flat({**BASE, EVERYWHERE: (NODES, *SERVICES[:2], EVENTS)})


def test_one_namespace_of_services_is_the_only_one_where_they_are_read():
    assert granted(service_namespace="shop") == flat(
        {EVERYWHERE: (NODES,), "shop": (*SERVICES, EVENTS), "default": (EVENTS,), "kube-system": (LEASES,)}
    )
    assert granted(service_namespace="kube-system")["kube-system"] == {*SERVICES, EVENTS, LEASES}


def test_several_namespaces_of_services_are_the_only_ones_that_are_written_and_all_are_read():
    assert granted(service_namespace="shop,net", namespace="net", vip_host_annotation=True) == flat(
        {
            EVERYWHERE: (NODES, *SERVICES[:2]),
            "shop": (*SERVICES[2:], PATCH_SERVICES, EVENTS),
            "net": (*SERVICES[2:], PATCH_SERVICES, EVENTS, LEASES),
            "default": (EVENTS,),
        }
    )
