"""How long the kernel keeps a VIP that nobody refreshes (PROTOCOL K9). Pure."""

from __future__ import annotations

SHORTEST_S = 60
LONGEST_S = 600
VIPS_AT_SHORTEST = 1_000
VIPS_AT_LONGEST = 10_000


def lifetime_s(setting_s: int, *, vips: int) -> int:
    """Seconds; `setting_s` 0 = automatic: 60 s up to 1,000 VIPs, growing with their number to 600 s at 10,000."""
    if setting_s:
        return setting_s
    share = (vips - VIPS_AT_SHORTEST) / (VIPS_AT_LONGEST - VIPS_AT_SHORTEST)
    return round(SHORTEST_S + (LONGEST_S - SHORTEST_S) * min(1.0, max(0.0, share)))
