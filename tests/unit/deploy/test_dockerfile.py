"""What the image leaves out of the Kubernetes client is what no command of kvip imports."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CODE = """
import importlib, pkgutil, sys, kvip
for found in pkgutil.walk_packages(kvip.__path__, "kvip."):
    if found.name != "kvip.__main__":
        importlib.import_module(found.name)
print(*sys.modules)
"""


def test_no_module_that_the_image_lacks_is_imported():
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True, timeout=60, cwd=ROOT)
    imported = {name for name in done.stdout.split() if name.startswith("kubernetes.")}
    assert "kubernetes.aio.client.models" in imported, "kept for its __init__"
    lacking = re.compile(r"kubernetes\.(?!aio(\.|$))|kubernetes\.aio\.client\.(api|models)\.")
    assert not [name for name in sorted(imported) if lacking.match(name)]


def test_the_image_gets_every_file_that_the_dockerfile_copies():
    dockerfile, ignored = (ROOT / "Dockerfile").read_text(), (ROOT / ".dockerignore").read_text().splitlines()
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
