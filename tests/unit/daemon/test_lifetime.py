"""K9: how long the kernel keeps a VIP that nobody refreshes."""

import pytest

from kvip.daemon.lifetime import lifetime_s


@pytest.mark.parametrize(("vips", "expected"), [(0, 60), (1_000, 60), (5_500, 330), (10_000, 600), (100_000, 600)])
def test_k9_the_automatic_lifetime_grows_with_the_number_of_vips(vips, expected):
    assert lifetime_s(0, vips=vips) == expected


def test_k9_a_lifetime_that_was_set_counts():
    assert lifetime_s(15, vips=10_000) == 15
