"""What `python -m build` makes goes into a fresh environment and works there: the wheel, and the sdist without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from kvip import __version__, _arp_py

ROOT = Path(__file__).parents[2]
INSTALL_S = 300
SMOKE = f"""
import kvip.kernel.batches as batches, kvip.kernel.packet as packet
mac, vip = bytes.fromhex("020000000001"), bytes([10, 10, 0, 200])
assert packet.build_arp(mac, vip) == bytes.fromhex("{_arp_py.build_arp(bytes.fromhex("020000000001"), bytes([10, 10, 0, 200])).hex()}")
import kvip.cli.manager, kvip.cli.sweep, kvip.observe.page as page
page.policy()
print(packet.send_batch.__module__, batches.match.__module__, packet.__file__)
"""

pytestmark = pytest.mark.timeout(2 * INSTALL_S)


def run(*argv: object, **environment: str) -> str:
    """What a command printed, run outside the source tree."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("KVIP_", "PYTHON"))}
    command = [str(part) for part in argv]
    done = subprocess.run(command, cwd="/", env={**keep, **environment}, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was made from it; built from a copy of what git would see of a fresh clone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(
        ROOT,
        source,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".git", ".venv", "*.so", "_arp.c", "_rtnl.c", "*.egg-info", "build", "__pycache__"),
    )
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source)
    return out


def environment(path: Path, package: Path, **variables: str) -> Path:
    """The bin of a fresh virtual environment with this package and what it needs, at the versions of constraints.txt."""
    run(sys.executable, "-m", "venv", path)
    tools = ("setuptools", "wheel", "Cython") if package.suffix == ".gz" else ()
    pip = (path / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
    if tools:
        run(*pip, *tools)
    run(*pip, *(["--no-build-isolation", "--no-binary=kvip"] if tools else []), package, **variables)
    return path / "bin"


def smoke(bin_: Path) -> tuple[str, str]:
    """What an environment has for frames and for addresses, after the commands of a first minute."""
    frames, addresses, place = run(bin_ / "python", "-I", "-c", SMOKE).split()
    assert place.startswith(str(bin_.parent)), "another kvip was imported"
    assert run(bin_ / "kvip", "--version") == f"kvip {__version__}\n"
    assert "kind: DaemonSet" in run(bin_ / "kvip", "manifest", "daemonset")
    assert "usage: kubectl kvip " in run(bin_ / "kubectl-kvip", "--help")
    return frames, addresses


def test_the_wheel_is_of_the_stable_abi_and_works_where_it_is_installed(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert f"kvip-{__version__}-cp311-abi3-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.read("kvip/observe/page.html") == (ROOT / "kvip" / "observe" / "page.html").read_bytes()
    assert {"kvip/_arp.abi3.so", "kvip/_rtnl.abi3.so"} <= set(names)
    assert not [name for name in names if not name.startswith(("kvip/", "kvip-"))], "the wheel has what is not kvip's"
    assert smoke(environment(tmp_path / "venv", wheel)) == ("kvip._arp", "kvip._rtnl")


def test_the_sdist_without_a_compiler_falls_back_to_the_twin(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert {f"kvip-{__version__}/kvip/{name}" for name in ("_arp.pyx", "_rtnl.pyx", "_text.pxd", "_datagrams.pxd")} <= set(names)
    assert smoke(environment(tmp_path / "venv", sdist, CC="/bin/false")) == ("kvip._arp_py", "kvip._rtnl_py")
