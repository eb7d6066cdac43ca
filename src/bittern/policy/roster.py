"""The addresses we know of one torrent, as opposed to the peers we are connected to: when to dial whom, and who not.

Bounded: when it is full, an address that failed most or came from the weakest source makes room. Bans are by host
(another port is no other person), parole by host as well.
"""

import enum
import ipaddress
import random
from typing import Final

from bittern.terms import Address

LIMIT: Final = 1000
BACK_OFF_FIRST_S: Final = 30.0
BACK_OFF_MOST_S: Final = 3600.0
RECONNECT_S: Final = 10.0
"""A useful peer that left is dialled again this soon."""

USELESS_S: Final = 3600.0
"""Two seeds, or we ourselves: nothing to gain for a long while."""

GIVE_UP_AFTER: Final = 8
"""Failed dials after which an address is forgotten."""


class Source(enum.IntEnum):
    """Who told us; the higher, the more it is worth."""

    INCOMING = 1
    PEX = 2
    DHT = 3
    LSD = 4
    TRACKER = 5
    RESUME = 6
    MANUAL = 7


class _Known:
    """One address."""

    __slots__ = ("busy", "due_at", "failures", "source", "useful")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.due_at = 0.0
        self.failures = 0
        self.busy = False
        """Being dialled, or connected."""
        self.useful = False


class Roster:
    """One torrent's. Times are the loop clock's."""

    def __init__(self, rng: random.Random, *, limit: int = LIMIT) -> None:
        self._rng = rng
        self._limit = limit
        self._known: dict[Address, _Known] = {}
        self._banned: set[str] = set()
        self._parole: set[str] = set()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, address: Address, source: Source) -> bool:
        """True when it was not known."""
        known = self._known.get(address)
        if known is not None:
            known.source = max(known.source, source)
            return False
        if address.host in self._banned or not 0 < address.port < 65536:
            return False
        if len(self._known) >= self._limit and not self._make_room(source):
            return False
        self._known[address] = _Known(source)
        return True

    def _make_room(self, source: Source) -> bool:
        idle = [
            (known.failures, -known.source, address)
            for address, known in self._known.items()
            if not known.busy
        ]
        if not idle:
            return False
        failures, negative, address = max(idle, key=lambda one: one[:2])
        if not failures and -negative > source:
            return False
        del self._known[address]
        return True

    # -- dialling --------------------------------------------------------------------------------------------------------

    def due(self, now: float, most: int) -> list[Address]:
        """Up to `most` addresses to dial now, the best first; they count as being dialled."""
        if most <= 0:
            return []
        ready = [
            (known.failures, not known.useful, -known.source, self._rng.random(), address)
            for address, known in self._known.items()
            if not known.busy and known.due_at <= now
        ]
        ready.sort()
        chosen = [entry[-1] for entry in ready[:most]]
        for address in chosen:
            self._known[address].busy = True
        return chosen

    def next_due_at(self) -> float | None:
        """When there will be somebody to dial; None when nobody."""
        return min((known.due_at for known in self._known.values() if not known.busy), default=None)

    def postponed(self, address: Address) -> None:
        """It was not dialled after all."""
        known = self._known.get(address)
        if known is not None:
            known.busy = False

    def connected(self, address: Address, now: float) -> None:
        """The handshake went well."""
        known = self._known.get(address)
        if known is not None:
            known.busy = True
            known.failures = 0
            known.due_at = now

    def failed(self, address: Address, now: float) -> None:
        """Nobody answered, or somebody else: longer and longer pauses, then it is forgotten."""
        known = self._known.get(address)
        if known is None:
            return
        known.busy = False
        known.failures += 1
        if known.failures >= GIVE_UP_AFTER:
            del self._known[address]
            return
        pause = min(BACK_OFF_FIRST_S * 2 ** (known.failures - 1), BACK_OFF_MOST_S)
        known.due_at = now + pause * self._rng.uniform(0.75, 1.25)

    def left(self, address: Address, now: float, *, useful: bool) -> None:
        """A connection ended."""
        known = self._known.get(address)
        if known is None:
            return
        known.busy = False
        known.useful = known.useful or useful
        if useful:
            known.due_at = now + RECONNECT_S * self._rng.uniform(0.75, 1.25)
        else:
            # it neither gave nor took: as good as a failed dial, or two clients would connect in circles
            self.failed(address, now)

    def useless(self, address: Address, now: float) -> None:
        """Nothing to gain there for a long while."""
        known = self._known.get(address)
        if known is not None:
            known.busy = False
            known.due_at = now + USELESS_S

    # -- trust -------------------------------------------------------------------------------------------------------------

    def ban(self, host: str) -> None:
        """It sent bad data: never again for this torrent, in this run."""
        if len(self._banned) < self._limit:
            self._banned.add(host)
        for address in [address for address in self._known if address.host == host]:
            del self._known[address]

    def banned(self, host: str) -> bool:
        return host in self._banned

    def parole(self, address: Address) -> None:
        """It may have sent bad data, or somebody else who contributed to the same piece."""
        if len(self._parole) < self._limit:
            self._parole.add(address.host)

    def on_parole(self, address: Address) -> bool:
        return bool(self._parole) and address.host in self._parole

    def cleared(self, address: Address) -> None:
        """A piece that came from it alone was good."""
        self._parole.discard(address.host)

    # -- resting -----------------------------------------------------------------------------------------------------------

    def best(self, most: int) -> list[Address]:
        """The addresses most worth keeping while nobody is connected."""
        ranked = sorted(
            (known.failures, not known.useful, -known.source, address)
            for address, known in self._known.items()
            if known.failures < 3
        )
        return [entry[-1] for entry in ranked[:most]]

    @staticmethod
    def pack(addresses: list[Address]) -> bytes:
        """Compact: a byte of length, the address, the port in two."""
        parts = []
        for host, port in addresses:
            packed = ipaddress.ip_address(host).packed
            parts.append(bytes([len(packed)]) + packed + port.to_bytes(2))
        return b"".join(parts)

    @staticmethod
    def unpack(blob: bytes) -> list[Address]:
        """What `pack` packed."""
        found = []
        at = 0
        while at < len(blob):
            end = at + 1 + blob[at]
            found.append(
                Address(str(ipaddress.ip_address(blob[at + 1 : end])), int.from_bytes(blob[end : end + 2]))
            )
            at = end + 2
        return found
