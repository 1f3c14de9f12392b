"""The DaemonSet or static Pod that runs the daemon with given settings, as data.

Input: settings that were checked, and the variables that say them. Output: objects of the Kubernetes API; ConfigError for settings that no
Pod can have. Pure.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from kvip.checks import parse_listen, shown
from kvip.core.rights import NAME
from kvip.errors import ConfigError
from kvip.settings import Settings

Json = dict[str, Any]

STATIC_KUBECONFIG = "/etc/kubernetes/admin.conf"
"""Where kubeadm leaves one: a static Pod has no service account (kubelet creates it without the API server)."""
_LABEL = "app.kubernetes.io/name"
_SHARED = ("/var/run", "/var/lib", "/var/tmp", "/var/log")
_UNSPECIFIED = ("0.0.0.0", "::")
_GRACE_S = 10
"""SIGTERM lets go of everything within 2.7 s (`kvip.daemon.stopping`), then the process ends itself."""


def daemonset(settings: Settings, variables: Mapping[str, str], *, image: str, kubeconfig: str) -> Json:
    """A daemon on every node. `kubeconfig` "" = the pod's service account, which `kvip manifest rbac` gives its rights."""
    spec = _pod_spec(settings, variables, image=image, kubeconfig=kubeconfig)
    if not kubeconfig:
        spec["serviceAccountName"] = NAME
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": settings.namespace, "labels": {_LABEL: NAME}},
        "spec": {
            "selector": {"matchLabels": {_LABEL: NAME}},
            # maxSurge 0: the old daemon ends before the new one starts, as the lock of the network namespace asks.
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": {_LABEL: NAME}}, "spec": spec},
        },
    }


def static_pod(settings: Settings, variables: Mapping[str, str], *, image: str, kubeconfig: str) -> Json:
    """A daemon that kubelet starts by itself from a file in its manifest folder."""
    spec = _pod_spec(settings, variables, image=image, kubeconfig=kubeconfig)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": settings.namespace, "labels": {_LABEL: NAME}},
        "spec": {**spec, "automountServiceAccountToken": False},
    }


def socket_folder(settings: Settings) -> str:
    """The folder of the host that the socket needs beside the state's; "" = none.

    Raises ConfigError for a folder that many programs use: the Pod would have all of it.
    """
    if not settings.socket:
        return ""
    state, folder = _plain(settings.state_dir), posixpath.dirname(_plain(settings.socket))
    if f"{folder}/".startswith(f"{state.rstrip('/')}/"):
        return ""
    if folder.count("/") < 2 or folder in _SHARED:
        name = posixpath.basename(settings.socket)
        problem = (
            f"{shown(settings.socket)} lies in {folder}, which the Pod would have to mount whole, with what other programs have there; "
            f"give it a folder of its own, such as {folder.rstrip('/')}/kvip-socket/{name}, or one in state-dir {settings.state_dir}"
        )
        raise ConfigError("socket", problem, source="flag --socket")
    return folder


def _plain(path: str) -> str:
    """An absolute path without what does nothing in it. POSIX leaves two slashes at the beginning open; Linux takes them for one."""
    return f"/{posixpath.normpath(path).lstrip('/')}"


def _pod_spec(settings: Settings, variables: Mapping[str, str], *, image: str, kubeconfig: str) -> Json:
    mounts: list[Json] = [{"name": "state", "mountPath": settings.state_dir}]
    volumes: list[Json] = [{"name": "state", "hostPath": {"path": settings.state_dir, "type": "DirectoryOrCreate"}}]
    if folder := socket_folder(settings):
        mounts.append({"name": "socket", "mountPath": folder})
        volumes.append({"name": "socket", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}})
    if kubeconfig:
        # The Kubernetes client writes certificates that a kubeconfig holds to files in /tmp.
        mounts += [{"name": "kubeconfig", "mountPath": kubeconfig, "readOnly": True}, {"name": "tmp", "mountPath": "/tmp"}]
        volumes += [
            {"name": "kubeconfig", "hostPath": {"path": kubeconfig, "type": "File"}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ]
    container = {
        "name": NAME,
        "image": image,
        "args": ["manager"],
        "env": _environment(variables),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "readOnlyRootFilesystem": True,
            # Added capabilities reach only root: Kubernetes sets no ambient ones.
            "runAsUser": 0,
        },
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        **_probes(settings),
        "volumeMounts": mounts,
    }
    return {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": _GRACE_S,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        # A Service called `kvip` would set KVIP_PORT and the like, which read as settings.
        "enableServiceLinks": False,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists", "effect": effect} for effect in ("NoSchedule", "NoExecute")],
        "containers": [container],
        "volumes": volumes,
    }


def _environment(variables: Mapping[str, str]) -> list[Json]:
    given = [{"name": name, "value": value} for name, value in variables.items()]
    if "KVIP_NODE_NAME" in variables:
        return given
    node_name = {"name": "KVIP_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    return [node_name, *given]


def _probes(settings: Settings) -> Json:
    """Probes where the daemon listens; none where it does not."""
    host, port = parse_listen(settings.metrics_address) if settings.metrics_address else ("", settings.health_check_port)
    place = {"port": port} if host in ("", *_UNSPECIFIED) else {"port": port, "host": host}
    alive = {"initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3}
    ready = {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2}
    return {
        **({"livenessProbe": {"httpGet": {"path": "/healthz", **place}, **alive}} if port else {}),
        **({"readinessProbe": {"httpGet": {"path": "/readyz", **place}, **ready}} if settings.metrics_address else {}),
    }
