"""Tables of kvip's in the kernel, read and changed over one netlink socket: the switch's three unless told otherwise.

In: transactions; out: their success, and what the tables hold. Every failure is a `SwitchError`. It decides nothing.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Sequence
from itertools import product
from typing import Final

from kvip.core.model import Vip, canonical
from kvip.core.ruleset import FAMILIES, MAPS, PRIMARY, TABLE, Verdict
from kvip.errors import NetlinkError, SwitchError
from kvip.kernel import nft
from kvip.kernel.codec import DecodeError, Message
from kvip.kernel.nft_socket import NftSocket

_CONTRADICTED: Final = frozenset({errno.ENOENT, errno.EEXIST, errno.EBUSY})


class Contradicted(SwitchError):
    """The kernel has something else than what was acknowledged before: `errno` is ENOENT, EEXIST or EBUSY."""

    def __init__(self, message: str, *, errno: int) -> None:
        self.errno = errno
        super().__init__(message)


class Tables:
    """The tables of one name, in the network namespace of the thread that makes this object. `close()` it."""

    def __init__(self, table: str = TABLE, families: Sequence[str] = FAMILIES, *, what: str = "the switch") -> None:
        """`what` the tables are, for messages."""
        self._table = table
        self._families = tuple(families)
        self._what = what
        try:
            self._socket = NftSocket()
        except NetlinkError as error:
            raise SwitchError(f"no nf_tables in this kernel, or no right to use it: {error}") from error

    @property
    def port(self) -> int:
        """The netlink port that changes made here are notified with."""
        return self._socket.port

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    def transact(self, requests: Sequence[nft.Request], operation: str, target: str) -> None:
        """All or nothing. Raises `Contradicted` when something is or is not there as expected, SwitchError otherwise."""
        try:
            self._socket.transact(requests, operation, target)
        except NetlinkError as error:
            if error.errno in _CONTRADICTED:
                raise Contradicted(f"{self._what}: {error}", errno=error.errno) from error
            raise SwitchError(f"{self._what}: {error}") from error
        except DecodeError as error:
            raise SwitchError(f"{self._what}: {operation} {target}: {error}") from error

    def present(self) -> list[str]:
        """The families in which there is a table of ours."""
        return [family for family in self._families if self._dump(nft.GETTABLE, family)]

    def remove(self) -> None:
        """Remove those tables that are there."""
        self.transact([nft.delete_table(family, self._table) for family in self.present()], "remove", "its tables")

    def generation(self) -> int:
        """The number of the last transaction in this network namespace, whoever made it."""
        try:
            return self._socket.generation()
        except (NetlinkError, DecodeError) as error:
            raise SwitchError(f"{self._what} cannot be read: {error}") from error

    def objects(self) -> frozenset[bytes]:
        """A fingerprint of every table, chain, rule and set; not of what is in the sets."""
        kinds = (nft.GETTABLE, nft.GETCHAIN, nft.GETRULE, nft.GETSET)
        return frozenset(
            nft.fingerprint(message) for family, kind in product(self._families, kinds) for message in self._dump(kind, family)
        )

    def chains(self, family: str) -> list[str]:
        """The names of the chains in one table."""
        return [nft.chain_name(message) for message in self._dump(nft.GETCHAIN, family)]

    def complete(self, set_name: str) -> bool:
        """Is a set of that name in each table?"""
        return all(any(nft.set_name(message) == set_name for message in self._dump(nft.GETSET, family)) for family in self._families)

    def raw_elements(self, family: str, name: str) -> frozenset[bytes]:
        """A set's elements, to be compared; none when it is not there."""
        try:
            return frozenset(raw for message in self._dump(nft.GETSETELEM, family, name) for raw in nft.raw_elements(message))
        except DecodeError as error:
            raise SwitchError(f"{self._what} cannot be read: {error}") from error

    def verdicts(self) -> set[Verdict]:
        """Every element of every map."""
        return {verdict for family, name in MAPS for verdict in self._elements(family, name)}

    def chains_of_vips(self) -> dict[Vip, str]:
        """VIP -> chain, of the two maps in which every VIP stands."""
        return {
            canonical(ipaddress.ip_address(verdict.key)): verdict.chain
            for family, name in PRIMARY.values()
            for verdict in self._elements(family, name)
        }

    def _elements(self, family: str, name: str) -> list[Verdict]:
        try:
            return [
                Verdict(family, name, element.key, element.chain)
                for message in self._dump(nft.GETSETELEM, family, name)
                for element in nft.decode_elements(message)
            ]
        except DecodeError as error:
            raise SwitchError(f"{self._what} cannot be read: {error}") from error

    def _dump(self, kind: int, family: str, name: str = "") -> list[Message]:
        """What is ours of one kind; nothing when the table is not there."""
        try:
            found = self._socket.dump(nft.dump(kind, family, self._table, name), f"{family} {self._table} {name}".rstrip())
            return [message for message in found if nft.table_of(message) == self._table]
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return []
            raise SwitchError(f"{self._what} cannot be read: {error}") from error
        except DecodeError as error:
            raise SwitchError(f"{self._what} cannot be read: {error}") from error
