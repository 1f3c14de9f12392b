"""The lab runs a container with what its Pod says, and refuses what it does not know."""

import pytest
import yaml

from lab.manifests import DEPLOY
from lab.netns import LabError
from lab.oci import runtime_spec, seccomp
from lab.shipped import environment, pod_of

IMAGE = {"Entrypoint": ["/opt/kvip/bin/kvip"], "Cmd": ["manager"], "Env": ["PATH=/opt/kvip/bin:/usr/bin", "A=image"]}
CAPABILITIES = ["CAP_NET_ADMIN", "CAP_NET_RAW"]


@pytest.fixture
def pod():
    return pod_of((DEPLOY / "base" / "daemonset.yaml").read_text())


def spec(pod, **given):
    return runtime_spec(pod, IMAGE, rootfs="/r", environment=given, binds=[], profile=None)


def test_the_container_has_the_rights_of_the_pod_and_no_others(pod):
    found = spec(pod)
    assert found["process"]["capabilities"] == dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    assert found["process"]["noNewPrivileges"] is True
    assert found["process"]["user"] == {"uid": 0, "gid": 0}
    assert found["root"] == {"path": "/r", "readonly": True}
    assert {"type": "network"} not in found["linux"]["namespaces"]


def test_the_command_is_the_images_entrypoint_with_the_pods_arguments(pod):
    assert spec(pod)["process"]["args"] == ["/opt/kvip/bin/kvip", "manager"]


def test_the_pods_environment_goes_over_the_images(pod):
    assert environment(pod, "n7") == {"KVIP_NODE_NAME": "n7"}
    assert set(spec(pod, A="pod", B="2")["process"]["env"]) == {"PATH=/opt/kvip/bin:/usr/bin", "A=pod", "B=2"}


def test_an_unknown_field_of_the_security_context_is_an_error(pod):
    pod["containers"][0]["securityContext"]["procMount"] = "Unmasked"
    with pytest.raises(LabError, match="procMount"):
        spec(pod)


PROFILE = """
defaultAction: SCMP_ACT_ERRNO
defaultErrnoRet: 38
syscalls:
- {names: [read], action: SCMP_ACT_ALLOW, args: [], includes: {}, excludes: {}}
- {names: [arm_one], action: SCMP_ACT_ALLOW, includes: {arches: [arm64]}}
- {names: [amd_one], action: SCMP_ACT_ALLOW, includes: {arches: [amd64, x32]}}
- {names: [mount], action: SCMP_ACT_ALLOW, includes: {caps: [CAP_SYS_ADMIN]}}
- {names: [mount], action: SCMP_ACT_ERRNO, errnoRet: 1, excludes: {caps: [CAP_SYS_ADMIN]}}
- {names: [socket], action: SCMP_ACT_ERRNO, errnoRet: 22, args: [{index: 0, value: 16, op: SCMP_CMP_EQ}], excludes: {caps: [CAP_NET_RAW]}}
"""


def test_a_seccomp_profile_is_resolved_for_the_capabilities():
    found = seccomp(yaml.safe_load(PROFILE), CAPABILITIES)
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert found["syscalls"] == [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["amd_one"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    ]
