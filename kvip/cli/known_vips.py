"""Which VIPs the last daemon on this host knew, and whose they were: by its journal.

Input: a folder. Output: VIP -> the Services that asked for it. It reads only: a journal that cannot be used stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kvip.core.model import Vip
from kvip.daemon.journal import FILE_NAME, LARGEST_BYTES, NewerJournal, boot_id, decode
from kvip.errors import UNREADABLE, ConfigError

Owners = Mapping[Vip, tuple[str, ...]]


def from_journal(directory: str) -> Owners:
    """The claims in the journal of the last daemon. Raises ConfigError when there is none of this boot that can be read."""
    path = Path(directory) / FILE_NAME
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            raise ConfigError("state-dir", f"there is no journal {path}")
        journal = decode(path.read_bytes())
    except OSError as error:
        raise ConfigError("state-dir", f"the journal {path} cannot be read: {error.strerror or error}") from error
    except NewerJournal as error:
        raise ConfigError("state-dir", f"the journal {path} is of a newer kvip: {error}") from error
    except UNREADABLE as error:
        raise ConfigError("state-dir", f"the journal {path} is torn or not kvip's: {error}") from error
    if journal.boot_id != boot_id():
        raise ConfigError("state-dir", f"the journal {path} is of an earlier boot, its VIPs may be others' by now")
    return {vip: tuple(claimant.service for claimant in claimants) for vip, claimants in journal.claims.items()}
