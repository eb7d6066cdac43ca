"""The addresses we know of one torrent, as opposed to the peers we are connected to: when to dial whom, and who not.

Bounded: when it is full, an address that failed most or came from the weakest source makes room. Bans are by host
(another port is no other person), parole by host as well. While a torrent is parked its best addresses rest as a few
bytes each, with what they have to wait for.
"""

import enum
import ipaddress
import math
import random
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from bittern.policy.exchange import Tellers
from bittern.policy.priority import canonical_priority
from bittern.terms import Address

LIMIT: Final = 1000
BACK_OFF_FIRST_S: Final = 30.0
BACK_OFF_MOST_S: Final = 3600.0
RECONNECT_S: Final = 10.0
"""A useful peer that left is dialled again this soon."""

FULL_FIRST_S: Final = 5.0
FULL_TRIES: Final = 3
"""Who is there but has no room may have some in a moment: asked again after 5, 10 and 20 s, and then like all others.
Of 500 small torrents from the same few seeds some would else wait for half a minute when all the others are done."""

USELESS_S: Final = 3600.0
"""Two seeds, or we ourselves: nothing to gain for a long while, unless more is wanted than before."""

JITTER: Final = 0.25
"""Of every pause, so that those who failed together do not come back together."""

GIVE_UP_AFTER: Final = 8
"""Failures in a row after which an address is forgotten."""

ROOM_SHARE: Final = 16
"""A sixteenth goes when the roster is full: looking for the worst one at each of a flood of new ones takes too long."""


RESTING_TAIL: Final = struct.Struct(">HBI")
"""Of an address at rest, behind its host: port, failures, due at (whole seconds of the loop's clock)."""

USEFUL_BIT: Final = 0x80
USELESS_BIT: Final = 0x40
KEPT_BIT: Final = 0x20
FAMILY_BITS: Final = 0x1F
"""The length of the host."""


class Source(enum.IntEnum):
    """Who told us; the higher, the more it is worth."""

    INCOMING = 1
    KEPT = 2
    """Good before a restart: it may be somebody else's by now, so a peer that names it today is believed more."""
    PEX = 3
    DHT = 4
    LSD = 5
    TRACKER = 6
    RESUME = 7
    """Known already when the torrent was parked."""
    MANUAL = 8


class _Known:
    """One address."""

    __slots__ = ("busy", "due_at", "failures", "priority", "source", "told_by", "useful", "useless")

    def __init__(self, source: Source, told_by: str, priority: int) -> None:
        self.source = source
        self.priority = priority
        """Of 32 bits, the higher the better (BEP 40); by chance while we do not know where we are."""
        self.told_by = told_by
        """Who answers for it where a peer named it, until it was tried."""
        self.due_at = 0.0
        self.failures = 0
        self.busy = False
        """Being dialled, or connected."""
        self.useful = False
        self.useless = False
        """While we want no more than we have."""


class Roster:
    """One torrent's. Times are the loop clock's."""

    def __init__(self, rng: random.Random, *, limit: int = LIMIT) -> None:
        self._rng = rng
        self._limit = limit
        self._known: dict[Address, _Known] = {}
        self._banned: dict[str, None] = {}
        self._parole: dict[str, None] = {}
        """Hosts, the longest known first: they go when there are too many."""
        self._tellers = Tellers()
        self._ours: dict[bool, Address] = {}
        """Where we are seen, by IPv6 or not."""

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Address]:
        return iter(self._known)

    def source_of(self, address: Address) -> Source | None:
        """Who told of it; None: nobody did."""
        known = self._known.get(address)
        return None if known is None else known.source

    def add(self, address: Address, source: Source, told_by: str = "") -> bool:
        """True when it was not known. `told_by`: who answers for it where a peer named it (`teller_of`)."""
        known = self._known.get(address)
        if known is not None:
            known.source = max(known.source, source)
            return False
        if address.host in self._banned or not 0 < address.port < 65536:
            return False
        if told_by and not self._tellers.may_name(told_by):
            return False
        if len(self._known) >= self._limit and not self._make_room(source):
            return False
        self._known[address] = _Known(source, told_by, self._priority(address))
        if told_by:
            self._tellers.named(told_by)
        return True

    def _tried(self, known: _Known, *, there: bool | None) -> None:
        """What became of it, for whoever named it."""
        if known.told_by:
            self._tellers.tried(known.told_by, there=there)
            known.told_by = ""

    def _forget(self, address: Address) -> None:
        self._tried(self._known.pop(address), there=None)

    def forget_all(self) -> None:
        """Whoever is being dialled is not wanted any more either; bans hold."""
        for address in list(self._known):
            self._forget(address)

    def __contains__(self, address: Address) -> bool:
        return address in self._known

    def _make_room(self, source: Source) -> bool:
        """Drops the worst ones that are idle; False when all are worth more than one from that source."""
        worst = sorted(
            (-known.failures, known.source, self._rng.random(), address)
            for address, known in self._known.items()
            if not known.busy and not known.useful and (known.failures or known.source <= source)
        )
        for entry in worst[: max(1, self._limit // ROOM_SHARE)]:
            self._forget(entry[-1])
        return bool(worst)

    def stands_at(self, ours: Address) -> None:
        """Our own address in one family, as peers see it."""
        v6 = ":" in ours.host
        if self._ours.get(v6) != ours:
            self._ours[v6] = ours
            for address, known in self._known.items():
                known.priority = self._priority(address)

    def priority_of(self, address: Address) -> int:
        """Of 32 bits, the higher the better (BEP 40); by chance while we do not know where we are."""
        known = self._known.get(address)
        return self._priority(address) if known is None else known.priority

    def _priority(self, address: Address) -> int:
        ours = self._ours.get(":" in address.host)
        return self._rng.getrandbits(32) if ours is None else canonical_priority(ours, address)

    # -- dialling -------------------------------------------------------------------------------------------

    def due(self, now: float, most: int) -> list[Address]:
        """Up to `most` addresses to dial now, the best first, of equals those of the highest priority (BEP 40); they
        count as being dialled.
        """
        if most <= 0:
            return []
        ready = [
            (known.failures, not known.useful, -known.source, -known.priority, address)
            for address, known in self._known.items()
            if not known.busy and known.due_at <= now
        ]
        ready.sort()
        chosen = [entry[-1] for entry in ready[:most]]
        for address in chosen:
            self._known[address].busy = True
        return chosen

    def anybody_due(self, now: float) -> bool:
        """Is there somebody to dial now?"""
        return any(not known.busy and known.due_at <= now for known in self._known.values())

    def next_due_at(self) -> float | None:
        """When there will be somebody to dial; None when nobody."""
        return min((known.due_at for known in self._known.values() if not known.busy), default=None)

    def connected(self, address: Address, now: float) -> None:
        """The handshake went well. Failures are forgiven only when something useful came of it."""
        known = self._known.get(address)
        if known is not None:
            known.busy = True
            known.due_at = now
            known.useless = False
            self._tried(known, there=True)

    def failed(self, address: Address, now: float) -> None:
        """Nobody answered, or somebody else: longer and longer pauses, then it is forgotten."""
        known = self._known.get(address)
        if known is None:
            return
        known.busy = False
        known.failures += 1
        self._tried(known, there=False)
        if known.failures >= GIVE_UP_AFTER:
            self._forget(address)
            return
        known.due_at = now + back_off_s(known.failures - 1, self._rng)

    def turned_away(self, address: Address, now: float) -> bool:
        """It is there, but has no room for us. True: it is worth another dial soon."""
        known = self._known.get(address)
        if known is not None:
            # or it is something else that was named to be dialled: it speaks neither for nor against who named it
            self._tried(known, there=None)
        self.failed(address, now)
        known = self._known.get(address)
        if known is None or known.failures > FULL_TRIES:
            return False
        known.due_at = now + jittered(FULL_FIRST_S * 2 ** (known.failures - 1), self._rng)
        return True

    def left(self, address: Address, now: float, *, useful: bool) -> None:
        """A connection ended."""
        known = self._known.get(address)
        if known is None:
            return
        if useful:
            known.busy = False
            known.useful = True
            known.failures = 0
            known.due_at = now + jittered(RECONNECT_S, self._rng)
        else:
            # it neither gave nor took: as good as a failed dial, or two clients would connect in circles
            self.failed(address, now)

    def parted(self, address: Address, now: float) -> None:
        """We have ended the connection, and are to dial again at once."""
        known = self._known.get(address)
        if known is not None:
            known.busy = False
            known.due_at = now

    def useless(self, address: Address, now: float) -> None:
        """Nothing to gain there for a long while, unless more is wanted then (`wake`)."""
        known = self._known.get(address)
        if known is not None:
            known.busy = False
            known.useless = True
            known.due_at = now + jittered(USELESS_S, self._rng)
            self._tried(known, there=None)

    # -- trust ----------------------------------------------------------------------------------------------

    def ban(self, host: str) -> None:
        """It sent bad data: never again for this torrent, in this run."""
        _remember(self._banned, host, self._limit)
        for address in [address for address in self._known if address.host == host]:
            self._forget(address)

    def banned(self, host: str) -> bool:
        """Was that host banned?"""
        return host in self._banned

    def parole(self, address: Address) -> None:
        """It may have sent bad data, or somebody else who contributed to the same piece."""
        _remember(self._parole, address.host, self._limit)

    def on_parole(self, address: Address) -> bool:
        """Is it to be given whole pieces of its own, so that the next bad one has one culprit?"""
        return bool(self._parole) and address.host in self._parole

    def cleared(self, address: Address) -> None:
        """A piece that came from it alone was good."""
        self._parole.pop(address.host, None)

    # -- resting --------------------------------------------------------------------------------------------

    def best(self, most: int) -> list[Address]:
        """The addresses most worth keeping while nobody is connected."""
        ranked = sorted(
            (known.failures, not known.useful, -known.source, address)
            for address, known in self._known.items()
        )
        return [entry[-1] for entry in ranked[:most]]

    def useful(self) -> list[Address]:
        """Those that gave or took something and left, who failed least since then first."""
        ranked = sorted((known.failures, address) for address, known in self._known.items() if known.useful)
        return [address for _, address in ranked]

    def rest(self, most: int) -> bytes:
        """The best addresses with their back-off, packed: an IPv4 address takes 12 bytes."""
        parts = []
        for address in self.best(most):
            known = self._known[address]
            host = ipaddress.ip_address(address.host).packed
            kind = len(host) | (USEFUL_BIT if known.useful else 0) | (USELESS_BIT if known.useless else 0)
            kind |= KEPT_BIT if known.source is Source.KEPT else 0
            # a clock that runs for a century more still fits
            due_at = min(max(math.ceil(known.due_at), 0), 0xFFFFFFFF)
            parts.append(bytes([kind]) + host + RESTING_TAIL.pack(address.port, known.failures, due_at))
        return b"".join(parts)

    def wake(self, blob: bytes, *, wanting: bool = False) -> None:
        """What `rest` packed is known again, as it was but for the fractions of a second. `wanting`: something is
        missing, and those who had nothing for us before may have it.
        """
        at = 0
        while at < len(blob):
            end = at + 1 + (blob[at] & FAMILY_BITS)
            port, failures, due_at = RESTING_TAIL.unpack_from(blob, end)
            address = Address(str(ipaddress.ip_address(blob[at + 1 : end])), port)
            if self.add(address, Source.KEPT if blob[at] & KEPT_BIT else Source.RESUME):
                known = self._known[address]
                known.useful = bool(blob[at] & USEFUL_BIT)
                known.failures = failures
                known.useless = bool(blob[at] & USELESS_BIT) and not wanting
                known.due_at = float(due_at) if known.useless or not blob[at] & USELESS_BIT else 0.0
            at = end + RESTING_TAIL.size


def pack_kept(addresses: Iterable[Address]) -> bytes:
    """For `Roster.wake`: what was kept over a restart, nothing of which is known but where it was."""
    parts = []
    for address in addresses:
        host = ipaddress.ip_address(address.host).packed
        parts.append(bytes([len(host) | KEPT_BIT]) + host + RESTING_TAIL.pack(address.port, 0, 0))
    return b"".join(parts)


def back_off_s(failures: int, rng: random.Random) -> float:
    """The pause after so many failures and one more: doubled each time, up to an hour."""
    return jittered(min(BACK_OFF_FIRST_S * 2 ** min(failures, 30), BACK_OFF_MOST_S), rng)


def jittered(pause_s: float, rng: random.Random) -> float:
    """A quarter more or less."""
    return pause_s * rng.uniform(1 - JITTER, 1 + JITTER)


def _remember(hosts: dict[str, None], host: str, most: int) -> None:
    if host not in hosts and len(hosts) >= most:
        del hosts[next(iter(hosts))]
    hosts[host] = None
