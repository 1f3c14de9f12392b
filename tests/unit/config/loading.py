"""Settings loaded from given sources: flags, variables, a file, a file system."""

import pytest

from kvip.config import Loaded, load
from kvip.errors import ConfigError

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class FakeFiles:
    """A file system of the given files."""

    def __init__(self, **files: str | bytes) -> None:
        self.files = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files


def loaded(*argv: str, toml: str | bytes | None = None, files: dict[str, str] | None = None, **environ: str) -> Loaded:
    contents: dict[str, str | bytes] = dict(files or {})
    if toml is not None:
        contents["/kvip.toml"] = toml
        environ.setdefault("KVIP_CONFIG", "/kvip.toml")
    return load(argv, environ, files=FakeFiles(**contents), hostname="Node-1.example")


def refused(*argv: str, **kwargs: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(*argv, **kwargs)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{caught.value.path}: ")
    assert caught.value.source in str(caught.value)
    return caught.value


SAMPLES = {
    "text": ("eth7", "eth7"),
    "switch": ("true", True),
    "number": ("2.5", 2.5),
    "integer": ("100", 100),
}
OVERRIDES = {
    "kubeconfig": ("/kube", "/kube"),
    "metrics-address": ("[::1]:9", "[::1]:9"),
    "page": ("all", "all"),
    "state-dir": ("/var/lib/kvip", "/var/lib/kvip"),
    "socket": ("/run/other.sock", "/run/other.sock"),
    "election": ("global", "global"),
    "stray-action": ("remove", "remove"),
    "log-format": ("logfmt", "logfmt"),
    "log-level": ("debug", "debug"),
    "loop": ("asyncio", "asyncio"),
    "lease-duration": ("5.5", 5.5),
    "retry-period": ("1.5", 1.5),
    "health-check-port": ("10256", 10256),
    "allow-cidr": ("192.0.2.0/24", "192.0.2.0/24"),
}


def provoking(foreign):
    return {"set": "something", "true": "true", "false": "false", "not /32,/128": "24", "not kubernetes": "etcd"}[foreign.when]
