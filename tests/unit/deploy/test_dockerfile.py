"""What the image leaves out of the Kubernetes client is what no command of kvip imports."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = """
import importlib, pkgutil, sys, kvip
for found in pkgutil.walk_packages(kvip.__path__, "kvip."):
    if found.name != "kvip.__main__":
        importlib.import_module(found.name)
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def imported():
    """Every module that some command of kvip imports."""
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True, timeout=60, cwd=ROOT)
    return set(done.stdout.split())


def test_no_module_that_the_image_lacks_is_imported(imported):
    found = {name for name in imported if name.startswith("kubernetes.")}
    assert "kubernetes.aio.client.models" in found, "kept for its __init__"
    lacking = re.compile(r"kubernetes\.(?!aio(\.|$))|kubernetes\.aio\.client\.(api|models)\.")
    assert not [name for name in sorted(found) if lacking.match(name)]


def test_no_package_that_the_image_lacks_is_imported(imported):
    removed = set(re.search(r"uninstall --yes \\\n +(.+) \\\n", (ROOT / "Dockerfile").read_text())[1].split())
    packages = packages_distributions()
    needed = {name.replace("_", "-").lower() for module in imported if "." not in module for name in packages.get(module, ())}
    assert {"aiohttp", "uvloop", "pydantic"} <= needed
    assert not removed & needed
    assert removed <= {name.replace("_", "-").lower() for names in packages.values() for name in names}, "a name that no package has"


def test_the_image_gets_every_file_that_the_dockerfile_copies():
    dockerfile, ignored = (ROOT / "Dockerfile").read_text(), (ROOT / ".dockerignore").read_text().splitlines()
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
