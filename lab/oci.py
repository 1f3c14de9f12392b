"""The OCI runtime configuration of a Pod's one container, as a container runtime makes it from the PodSpec and the image. Pure.

In: the PodSpec, the image's configuration, where the mounts are. Out: `runtime_spec()`, what config.json of a bundle says (OCI runtime-spec
1.0). Only what kvip's Pod uses is known; another field of a securityContext is an error, so that nothing is left out unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.netns import LabError

Json = dict[str, Any]
ARCHITECTURE = "amd64"

# What runc, crun and containerd mount and mask for every container (containerd: oci/spec.go, oci/mounts.go).
_MOUNTS = (
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
)
_MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_KNOWN = {"allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem", "runAsUser"}


def runtime_spec(
    pod: Json, image: Json, *, rootfs: str, environment: Mapping[str, str], binds: Sequence[Json], profile: Json | None
) -> Json:
    """config.json. `image`: the image's OCI configuration; `binds`: mounts from the host; `profile`: RuntimeDefault's seccomp profile."""
    container = pod["containers"][0]
    security = container["securityContext"]
    if unknown := set(security) - _KNOWN:
        raise LabError(f"securityContext: {', '.join(sorted(unknown))} not known to the lab's container runtime")
    if not pod["hostNetwork"]:
        raise LabError("hostNetwork: the lab's container runtime knows no other")
    capabilities = [f"CAP_{name}" for name in security["capabilities"]["add"]]
    given = dict(entry.split("=", 1) for entry in image.get("Env") or [])
    spec: Json = {
        "ociVersion": "1.0.2",
        "root": {"path": rootfs, "readonly": security["readOnlyRootFilesystem"]},
        "process": {
            "user": {"uid": security["runAsUser"], "gid": 0},
            "args": [*image["Entrypoint"], *container["args"]],
            "env": [f"{name}={value}" for name, value in {**given, **environment}.items()],
            "cwd": image.get("WorkingDir") or "/",
            # No inheritable or ambient ones (containerd: WithCapabilities).
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": not security["allowPrivilegeEscalation"],
        },
        "mounts": [*_MOUNTS, *binds],
        # The network is the node's: hostNetwork.
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }
    if profile is not None:
        spec["linux"]["seccomp"] = seccomp(profile, capabilities)
    return spec


def seccomp(profile: Json, capabilities: Sequence[str]) -> Json:
    """A profile in the engines' form (containers-common, moby: seccomp.json) as the runtime wants it, for these capabilities."""

    def applies(rule: Json) -> bool:
        wanted, excluded = rule.get("includes") or {}, rule.get("excludes") or {}
        if "minKernel" in wanted:
            raise LabError("seccomp profile: minKernel is not known to the lab's container runtime")
        return (
            ARCHITECTURE in wanted.get("arches", [ARCHITECTURE])
            and set(wanted.get("caps", ())) <= set(capabilities)
            and ARCHITECTURE not in excluded.get("arches", ())
            and not set(excluded.get("caps", ())) & set(capabilities)
        )

    kept = ("names", "action", "errnoRet", "args")
    return {
        "defaultAction": profile["defaultAction"],
        **({"defaultErrnoRet": profile["defaultErrnoRet"]} if "defaultErrnoRet" in profile else {}),
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{key: rule[key] for key in kept if rule.get(key)} for rule in profile["syscalls"] if applies(rule)],
    }
