"""Imports a part of a large package without what the package's own `__init__` imports beside it.

Input: a package's name. Output: the package in `sys.modules`, its submodules importable, its `__init__` not run. For packages whose
`__init__` only re-exports: `kubernetes` (the whole synchronous client, 0.1-0.4 s) and `pyroute2` (0.05-0.15 s), which are a third of the
time from exec to the first sweep. It must be called before anything imports the package; then it does nothing any more.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec


def use_submodules_of(name: str) -> None:
    """Make `import name.submodule` work without running `name/__init__.py`. Raises ModuleNotFoundError when it is not installed."""
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.modules[name] = module_from_spec(spec)
