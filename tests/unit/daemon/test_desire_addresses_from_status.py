"""Addresses that another IPAM writes into the status: taken by option, never removed, never one's own."""

import msgspec
import pytest

from kvip.core.objects import ManagedFields, ManagedMeta, ManagedService
from tests.unit.daemon.fake_ports import OTHER, VIP, marked, service
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    return House()


WROTE_INGRESS = b'{"manager":"%s","fieldsV1":{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}}'


def managed(*shows, by=("ipam",), vips=()):
    plain = service(*vips, shows=shows)
    fields = tuple(msgspec.json.decode(WROTE_INGRESS % name.encode(), type=ManagedFields) for name in by)
    metadata = ManagedMeta(**{name: getattr(plain.metadata, name) for name in plain.metadata.__struct_fields__}, managed_fields=fields)
    return ManagedService(metadata=metadata, spec=plain.spec, status=plain.status)


@pytest.mark.parametrize(
    ("option", "by", "taken"),
    [
        (True, ("ipam",), True),
        (True, ("kvip",), False),
        (True, ("kube-vip",), False),
        (True, ("ipam", "kvip"), False),
        (True, (), False),
        (False, ("ipam",), False),
    ],
)
def test_addresses_of_another_ipam_are_taken_by_option_and_never_ones_own(option, by, taken):
    house = House(addresses_from_status=option)
    house.read(managed(VIP, by=by))
    assert set(house.ledger.vips()) == ({VIP} if taken else set())


def test_an_object_of_which_the_writers_are_not_known_gives_no_addresses():
    house = House(addresses_from_status=True)
    house.read(service(shows=[VIP]))
    assert set(house.ledger.vips()) == set()


def test_what_the_ipam_wrote_is_not_written_again_in_other_words():
    """A write would make kvip the owner of the list, and then the address is not read from it any more."""
    house = House(addresses_from_status=True)
    given = managed("2001:DB8::7")
    house.read(given)
    house.publisher.announced("2001:db8::7", "eth0")
    assert house.status.written == []
    assert house.events.told() == [("VIPBound", "uid-1")]


def test_the_annotation_wins_over_the_status_and_entries_of_the_ipam_stay():
    house = House(addresses_from_status=True)
    house.read(managed(VIP))
    house.read(managed(VIP, vips=[OTHER]))
    house.publisher.announced(OTHER, "eth0")
    assert house.status.written == [("uid-1", [VIP, OTHER])]
    house.read(managed(VIP, OTHER, by=("kvip",), vips=[OTHER]))
    assert len(house.status.written) == 1


def test_an_address_of_the_ipam_that_was_bound_leaves_without_its_entry():
    house = House(addresses_from_status=True)
    house.read(managed(VIP))
    house.know(marked())
    house.read(managed(VIP, vips=[OTHER]))
    house.publisher.announced(OTHER, "eth0")
    house.read(managed(VIP, OTHER, by=("kvip",), vips=[OTHER]))
    assert set(house.ledger.vips()) == {OTHER}
    assert house.status.written == [("uid-1", [VIP, OTHER])]


def test_an_address_that_the_ipam_changes_stays_until_the_new_one_is_up():
    house = House(addresses_from_status=True)
    house.read(managed(VIP))
    house.know(marked())
    house.read(managed(OTHER))
    assert set(house.ledger.vips()) == {VIP, OTHER}
    house.publisher.announced(OTHER, "eth0")
    house.look()
    assert set(house.ledger.vips()) == {OTHER}
    assert house.status.written == []


def test_a_first_frame_that_leaves_when_the_ipam_has_just_changed_the_address_writes_nothing():
    house = House(addresses_from_status=True)
    house.read(managed(VIP))
    house.apply(managed(OTHER))
    house.publisher.announced(VIP, "eth0")
    assert house.status.written == []


def test_what_a_former_daemon_read_from_the_status_is_not_ours_to_remove():
    house, later = House(addresses_from_status=True), House(addresses_from_status=True)
    house.read(managed(VIP))
    later.desire.remember({VIP: tuple(house.ledger.claimants(VIP).values())})
    later.read(managed(VIP, OTHER, by=("kvip",), vips=[OTHER]))
    assert later.status.written == []


def test_an_entry_of_the_ipam_is_not_removed_though_the_address_was_kvips_before():
    house = House(addresses_from_status=True)
    house.read(managed(VIP, by=("kvip",), vips=[VIP, OTHER]))
    house.read(managed(VIP, by=("ipam",), vips=[OTHER]))
    assert house.status.written == []


def test_ones_own_entry_is_removed_and_never_read_back():
    house = House(addresses_from_status=True)
    house.read(managed(VIP, by=("kvip",), vips=[VIP]))
    house.read(managed(VIP, by=("kvip",)))
    assert set(house.ledger.vips()) == set()
    assert house.status.written == [("uid-1", [])]
