"""The daemon of the version before this one, out of the repository's history, with an extension module of its own.

In: `COMMIT`. Out: the folder to put on PYTHONPATH instead of the repository; it is made once, under the cache. The dependencies are those
that are installed here. Must not: change the working tree, or stand in for a version that the history does not have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.netns import LabError
from lab.node import REPOSITORY

COMMIT = "01e70c42dd1fbfcfb7e651af175160b0216b162a"
"""The last commit whose claim records do not say what is unproven: no release was made yet. Once there is one, its tag's commit."""
_BUILD_TIMEOUT_S = 90.0


def missing() -> str:
    """Why the version before this one cannot be had here; "" when it can."""
    if _folder().is_dir():
        return ""
    if shutil.which("git") is None:
        return "the version before this one cannot be had: no git"
    done = _git("cat-file", "-e", f"{COMMIT}^{{commit}}")
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip() or "not a commit of this repository"
        return f"the version before this one cannot be had (a clone without its history? `git fetch --unshallow`): {why}"
    return ""


def unpacked() -> Path:
    """The folder of that version. Raises LabError when it cannot be had, or does not start with what is installed here."""
    if why := missing():
        raise LabError(why)
    folder = _folder()
    if not folder.is_dir():
        _make(folder)
    return folder


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # The extension module is of this interpreter's ABI at least, and the dependencies are those of this environment.
    return cache / "kvip" / "previous" / f"{COMMIT[:12]}-{sys.implementation.cache_tag}"


def _make(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        tree = Path(temporary) / "tree"
        tree.mkdir()
        archive = _git("archive", "--format=tar", COMMIT)
        if archive.returncode:
            raise LabError(f"git archive {COMMIT}: {archive.stderr.decode(errors='replace').strip()}")
        _run("tar", "-x", cwd=tree, data=archive.stdout)
        _run(sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", cwd=tree)
        found = _run(sys.executable, "-c", "import kvip.cli.main, kvip.daemon.app; print(kvip.__file__)", cwd=Path(temporary), path=tree)
        if Path(found.strip()).parent != tree / "kvip":
            raise LabError(f"the version before this one is not what is imported from its folder, but {found.strip()}")
        try:
            tree.rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another run was quicker
                raise LabError(f"{folder} cannot be made: {error}") from error


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, timeout=30, check=False)


def _run(*command: str, cwd: Path, path: Path | None = None, data: bytes | None = None) -> str:
    env = {**os.environ, "PYTHONPATH": str(path or "")}
    done = subprocess.run(command, cwd=cwd, env=env, input=data, capture_output=True, timeout=_BUILD_TIMEOUT_S, check=False)
    if done.returncode:
        raise LabError(f"{command[0]} for the version before this one: exit {done.returncode}: {done.stderr.decode()[-2000:].strip()}")
    return done.stdout.decode()
