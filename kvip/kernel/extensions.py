"""Which code does the work: a compiled module, or its twin where there is none.

In: a module's name, what is used of it, and the environment. Out: the module, or None for the twin. It must not know what the modules do.
"""

from __future__ import annotations

import importlib
import logging
import os
from types import ModuleType

log = logging.getLogger(__name__)


def extension(name: str, *used: str) -> ModuleType | None:
    """The compiled module; None where it was not built (no compiler at the install), and where KVIP_NO_EXTENSIONS=1 asks for the twins.

    One that is there and cannot be loaded, or has not all that is `used`, as one that an older version left, is a warning.
    """
    if os.environ.get("KVIP_NO_EXTENSIONS") == "1":
        return None
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return None
    except ImportError as problem:
        log.warning("extension cannot be loaded, using the slower twin", extra={"extension": name, "error": str(problem)})
        return None
    missing = [part for part in used if not hasattr(module, part)]
    if missing:
        log.warning("extension is of another version, using the slower twin", extra={"extension": name, "missing": missing})
        return None
    return module
