"""Large packages are imported in part: what their `__init__` adds costs start time and memory, and is not wanted."""

import subprocess
import sys

import pytest

from kvip.bare import use_submodules_of


def test_the_daemon_imports_neither_the_synchronous_client_nor_the_netlink_database():
    code = "import sys, kvip.daemon.app; print(*sys.modules)"
    found = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30).stdout.split())
    assert {"kubernetes.aio.client.api_client", "pyroute2.iproute.linux"} <= found
    assert not {"kubernetes.config", "kubernetes.client", "kubernetes.aio.dynamic", "pyroute2.ndb.main"} & found


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        use_submodules_of("no_such_package")


def test_a_package_that_was_imported_already_is_left_as_it_is():
    import kubernetes

    use_submodules_of("kubernetes")
    assert sys.modules["kubernetes"] is kubernetes
