"""The dials of one live torrent: whom, how many at a time, and what came of each.

Invariants: a dial holds one of the process's connection slots from before it begins until its peer takes the slot over;
of one that comes to nothing it is given back, once. The roster hears how each ended.
"""

from functools import partial
from typing import Protocol

import trio

from bittern.engine.calling import call
from bittern.engine.supervision import Supervisor
from bittern.errors import HandshakeError, PeerError, TurnedAway
from bittern.net.dialer import Dialer
from bittern.net.transport import PeerTransport
from bittern.policy.roster import Roster
from bittern.proto.handshake import Handshake
from bittern.terms import Address, InfoHash


class SelfConnection(HandshakeError):
    """We met ourselves."""


class Slots(Protocol):
    """The process's connection slots."""

    def take(self) -> bool:
        """Takes one that is free, if there is one."""

    def give_back(self) -> None:
        """Gives it back."""

    @property
    def dials_at_once(self) -> int:
        """How many one torrent may take for dials at a time."""


class Dials(Protocol):
    """What dialling needs of the session."""

    dialer: Dialer
    supervisor: Supervisor

    @property
    def connection_slots(self) -> Slots:
        """Of the process."""

    def met_self(self, address: Address) -> None:
        """That address turned out to be ours."""


class Dialled(Protocol):
    """The swarm that dials."""

    roster: Roster

    @property
    def places(self) -> int:
        """How many more peers it may have, those that are being dialled counted as some."""

    def makes_room(self, now: float) -> bool:
        """Takes the slot of somebody who has to leave, if there is somebody to be dialled for it."""

    def hello(self) -> bytes:
        """Our handshake."""

    def reached(self, transport: PeerTransport, handshake: Handshake, address: Address) -> None:
        """Takes the transport and the slot over, or raises `HandshakeError`."""


class Dialling:
    """One swarm's."""

    def __init__(self, host: Dials, swarm: Dialled, info_hash: InfoHash) -> None:
        self._host = host
        self._slots = host.connection_slots
        self._swarm = swarm
        self._info_hash = info_hash
        self.under_way = 0
        self._began = self._hopeful = False

    @property
    def in_vain(self) -> bool:
        """Was somebody dialled, and nobody who had no room for us just now?"""
        return self._began and not self._hopeful

    def dial_due(self, nursery: trio.Nursery) -> None:
        """Dials whom the roster finds due, as far as there is room."""
        now = trio.current_time()
        if not self._swarm.roster.anybody_due(now):
            # each swarm asks each second, and to take two hundred places for nobody costs more than all else it does
            return
        room = min(self._swarm.places, self._slots.dials_at_once)
        slots = 0
        while slots < room and self._slots.take():
            slots += 1
        if not slots:
            slots += self._swarm.makes_room(now)
        due = self._swarm.roster.due(now, slots)
        for _ in range(slots - len(due)):
            self._slots.give_back()
        for address in due:
            self._began = True
            self.under_way += 1
            nursery.start_soon(self._dial, address)

    async def _dial(self, address: Address) -> None:
        await self._host.supervisor.contain(
            f"dial of {address}",
            partial(self._dial_once, address),
            lambda _: self._swarm.roster.failed(address, trio.current_time()),
            remedy="it is dialled again later",
        )

    async def _dial_once(self, address: Address) -> None:
        """One outbound connection up to its handshake."""
        roster = self._swarm.roster
        transport: PeerTransport | None = None
        try:
            transport, handshake = await call(
                self._host.dialer, address, self._swarm.hello(), self._info_hash
            )
            if address not in roster:
                raise HandshakeError("forgotten meanwhile")
            self._swarm.reached(transport, handshake, address)
            transport = None
        except SelfConnection:
            self._host.met_self(address)
            roster.useless(address, trio.current_time())
            self._slots.give_back()
        except TurnedAway:
            self._hopeful = roster.turned_away(address, trio.current_time()) or self._hopeful
            self._slots.give_back()
        except (OSError, PeerError, trio.TooSlowError):
            roster.failed(address, trio.current_time())
            self._slots.give_back()
        except BaseException:
            self._slots.give_back()
            raise
        finally:
            self.under_way -= 1
            if transport is not None:
                transport.close()
