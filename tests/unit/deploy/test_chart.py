"""The Helm chart prints what `kvip manifest` prints for the same settings: one truth about rights and Pods, written down twice."""

import pytest
import yaml

from kvip import __version__
from kvip.cli.main import main
from kvip.options import OPTIONS
from lab.helm import NO_HELM, find_helm, helm, template
from lab.manifests import CHART, DEPLOY, NOT_IN_CHART
from lab.netns import LabError
from lab.shipped import objects_of

rendered = pytest.mark.skipif(find_helm() is None, reason=NO_HELM)

CASES = {
    "defaults": ("kube-system", {}),
    "another namespace": ("net", {}),
    "one Lease": ("kube-system", {"election": "global"}),
    "a Lease per Service": ("kube-system", {"election": "per-service"}),
    "a Lease per Service on demand": ("net", {"election": "global", "per-service-on-demand": True}),
    "no Service is written": ("kube-system", {"disable-service-updates": True}),
    "no Service is written, though an annotation is asked for": (
        "kube-system",
        {"disable-service-updates": True, "vip-host-annotation": True},
    ),
    "the annotation of the host": ("kube-system", {"vip-host-annotation": True, "disable-service-updates": False}),
    "Services of one namespace": ("kube-system", {"service-namespace": "shop"}),
    "Services of the namespace of Events about Nodes": ("kube-system", {"service-namespace": "default"}),
    "Services of kvip's own namespace": ("net", {"service-namespace": "net"}),
    "everything in one namespace": ("default", {"service-namespace": "default"}),
    "Services of one namespace, a Lease for each": ("net", {"service-namespace": "shop", "election": "per-service"}),
    "Services of several namespaces": ("net", {"service-namespace": "shop, net,shop", "vip-host-annotation": True}),
    "Services of several namespaces, a Lease for each": ("net", {"service-namespace": "shop,default", "election": "per-service"}),
    "Services of several namespaces, none written": ("net", {"service-namespace": "shop,web", "disable-service-updates": True}),
    "some addresses": ("kube-system", {"allow-cidr": "192.0.2.0/24,2001:db8::/64"}),
    "numbers": ("kube-system", {"lease-duration": 1000, "frame-rate": 1_000_000, "retry-period": 1.5, "renew-deadline": 100}),
    "a folder": ("kube-system", {"state-dir": "/var/lib/kvip", "interface": "eth0"}),
    "a socket in a folder of its own": ("kube-system", {"socket": "/run/kvip-socket/kvip.sock"}),
    "a socket in a folder of the state": ("kube-system", {"socket": "/var/lib/kvip//a/kvip.sock", "state-dir": "/var/lib/kvip/"}),
    "no socket": ("kube-system", {"socket": "off"}),
    "listens on one address": ("kube-system", {"metrics-address": "127.0.0.1:9"}),
    "listens on one IPv6 address": ("kube-system", {"metrics-address": "[fd00::1]:9"}),
    "listens on every IPv6 address": ("kube-system", {"metrics-address": "[::]:9"}),
    "listens on every IPv4 address": ("kube-system", {"metrics-address": "0.0.0.0:9", "health-check-port": 10256}),
    "does not listen": ("kube-system", {"metrics-address": "off"}),
    "listens for the health check alone": ("kube-system", {"metrics-address": "off", "health-check-port": 10256}),
}


def text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def by_place(objects):
    found = {}
    for item in objects:
        if item["kind"] == "DaemonSet":
            container = item["spec"]["template"]["spec"]["containers"][0]
            container["env"] = {entry["name"]: entry for entry in container["env"]}
        found[item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]] = item
    return found


def from_kvip(capsys, namespace, settings):
    flags = [f"--{name}={text(value)}" for name, value in settings.items()]
    objects = []
    for kind in ("rbac", "daemonset"):
        assert main(["manifest", kind, *flags, *([f"--namespace={namespace}"] if namespace != "kube-system" else [])]) == 0
        objects += objects_of(capsys.readouterr().out)
    return by_place(objects)


def from_chart(namespace="kube-system", **values):
    return by_place(objects_of(template(values, namespace=namespace)))


@rendered
@pytest.mark.parametrize("case", CASES)
def test_chart_prints_what_kvip_prints(capsys, case):
    namespace, settings = CASES[case]
    assert from_chart(namespace, settings=settings) == from_kvip(capsys, namespace, settings)


@rendered
def test_values_are_followed():
    pod = from_chart(
        image={"repository": "registry.example/kvip", "tag": "2", "pullPolicy": "Always"},
        imagePullSecrets=[{"name": "key"}],
        nodeSelector={"rack": "7"},
        tolerations=[],
        priorityClassName="",
        podAnnotations={"team": "net"},
        resources={"limits": {"memory": "1Gi"}},
    )["DaemonSet", "kube-system", "kvip"]["spec"]["template"]
    assert pod["metadata"]["annotations"] == {"team": "net"}
    pod = pod["spec"]
    assert not {"tolerations", "priorityClassName"} & set(pod)
    main_container = pod["containers"][0]
    assert (main_container["image"], main_container["imagePullPolicy"]) == ("registry.example/kvip:2", "Always")
    assert (pod["imagePullSecrets"], pod["nodeSelector"]) == ([{"name": "key"}], {"kubernetes.io/os": "linux", "rack": "7"})
    assert main_container["resources"]["limits"] == {"memory": "1Gi"}


@rendered
def test_what_prometheus_needs_comes_on_request():
    assert not {kind for kind, _, _ in from_chart()} & {"Service", "ServiceMonitor", "PrometheusRule", "NetworkPolicy"}
    found = from_chart(
        "net",
        settings={"metrics-address": "0.0.0.0:9"},
        serviceMonitor={"enabled": True, "labels": {"release": "prometheus"}},
        prometheusRule={"enabled": True},
    )
    service, monitor = found["Service", "net", "kvip-metrics"], found["ServiceMonitor", "net", "kvip"]
    pods = found["DaemonSet", "net", "kvip"]["spec"]["selector"]["matchLabels"]
    assert service["spec"] == {"clusterIP": "None", "selector": pods, "ports": [{"name": "metrics", "port": 9}]}
    assert monitor["metadata"]["labels"] == {"release": "prometheus"}
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert [(end["port"], end["interval"]) for end in monitor["spec"]["endpoints"]] == [("metrics", "30s")]
    assert found["PrometheusRule", "net", "kvip"]["spec"] == yaml.safe_load((DEPLOY / "alerts.yaml").read_text())


@rendered
def test_the_policy_lets_in_what_reads_metrics_and_asks_for_health():
    peers = [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]
    policy = from_chart(settings={"health-check-port": 10256}, networkPolicy={"enabled": True, "from": peers})
    assert policy["NetworkPolicy", "kube-system", "kvip"]["spec"] == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kvip"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": 2112}], "from": peers}, {"ports": [{"protocol": "TCP", "port": 10256}]}],
    }


@rendered
@pytest.mark.parametrize("address", ["off", "127.0.0.1:2112", "[::1]:2112", "localhost:2112"])
@pytest.mark.parametrize("what", ["serviceMonitor", "networkPolicy"])
def test_metrics_that_nobody_reaches_are_not_scraped(address, what):
    with pytest.raises(LabError, match=r"settings\.metrics-address is .* nobody outside the node"):
        template({"settings": {"metrics-address": address}, what: {"enabled": True}})


@rendered
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"intrface": "eth0"}, "intrface"),
        ({"election": "raft"}, "election"),
        ({"node-name": "n1"}, "node-name"),
        ({"probe": "yes"}, "probe"),
        ({"socket": "/run/kvip.sock"}, "folder of its own"),
    ],
)
def test_a_setting_that_is_none_is_refused_by_its_name(settings, named):
    with pytest.raises(LabError, match=named):
        template({"settings": settings})


@rendered
def test_helm_finds_no_fault():
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_each_value_has_its_comment():
    lines = (CHART / "values.yaml").read_text().splitlines()
    top = {name for name in yaml.safe_load("\n".join(lines)) if name != "image"}
    keys = [(number, line.split(":")[0].strip()) for number, line in enumerate(lines) if line and "#" not in line]
    documented = {key for number, key in keys if number and lines[number - 1].lstrip().startswith("#")}
    assert documented == top | {"repository", "tag", "pullPolicy"}
    assert {option.name for option in OPTIONS} > NOT_IN_CHART


def test_the_chart_names_the_image_that_kvip_manifest_names():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert f"{values['image']['repository']}:{__version__}" == f"kvip:{__version__}"
    assert values["image"]["tag"] == ""
