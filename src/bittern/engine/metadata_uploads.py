"""Gives a torrent's info dictionary to peers that came by a magnet link (BEP 9), from the stored .torrent.

Never for private torrents: who has no .torrent of theirs is not of their swarm (BEP 27). It is read piece by piece in a
thread when it is asked for; the peers take turns; the upload limit holds; and nobody gets it more than a few times.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from bittern.disk.disk import DiskGate
from bittern.engine.extensions import Partner
from bittern.engine.throttle import RateLimit
from bittern.errors import StorageError
from bittern.proto.extension import UT_METADATA, ExtensionHandshake
from bittern.proto.messages import pack_extended
from bittern.proto.metadata import (
    MetadataRequest,
    pack_metadata_piece,
    pack_metadata_reject,
    parse_metadata_message,
    piece_count,
)

NUMBER: Final = 2
LONGEST_BYTES: Final = 1024
"""Requests and rejects have fifty bytes. We have it all: pieces are not for us."""

WAITING_AT_MOST: Final = 64
"""Requests of one peer."""

TIMES: Final = 2
SPARE: Final = 8
"""How often a peer gets the whole, and so many pieces more."""

UNREAD_AT_MOST: Final = 32 * 1024
"""Who has that much to read of us gets no more."""


class Home(Protocol):
    """A swarm, as this sees it."""

    disk: DiskGate
    upload_throttle: RateLimit
    metadata_bytes: int | None
    read_metadata: Callable[[int], bytes]
    """A piece of it, read in a thread. `StorageError`."""

    def in_background(self, body: Callable[[], Awaitable[None]]) -> None:
        """Runs it beside the peers; it ends with the swarm."""


class _Asked:
    """One peer's requests."""

    __slots__ = ("count", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.waiting: dict[int, None] = {}


class MetadataUploads:
    """An `Extension` of one swarm."""

    name = UT_METADATA
    number = NUMBER
    longest_bytes = LONGEST_BYTES

    def __init__(self, home: Home) -> None:
        self._home = home
        self._asked: dict[Partner, _Asked] = {}
        self._serving = False

    def met(self, partner: Partner, told: ExtensionHandshake) -> None:
        pass

    def heard(self, partner: Partner, payload: bytes) -> bool:
        message = parse_metadata_message(payload)
        if not isinstance(message, MetadataRequest):
            return False
        pieces = piece_count(self._home.metadata_bytes or 0)
        asked = self._asked.setdefault(partner, _Asked())
        if (
            message.piece >= pieces
            or asked.count >= TIMES * pieces + SPARE
            or len(asked.waiting) >= WAITING_AT_MOST
        ):
            self._say(partner, pack_metadata_reject(message.piece))
            return False
        asked.count += 1
        asked.waiting[message.piece] = None
        self._serve()
        return True

    def left(self, partner: Partner) -> None:
        self._asked.pop(partner, None)

    def tick(self, now: float) -> None:
        self._serve()

    def _serve(self) -> None:
        if not self._serving and self._next() is not None:
            self._serving = True
            self._home.in_background(self._send_waiting)

    def _next(self) -> Partner | None:
        """Who waits, and reads what it is told."""
        for partner, asked in self._asked.items():
            if asked.waiting and partner.held_bytes <= UNREAD_AT_MOST:
                return partner
        return None

    async def _send_waiting(self) -> None:
        home = self._home
        try:
            while (partner := self._next()) is not None:
                asked = self._asked.pop(partner)
                self._asked[partner] = asked  # its next turn comes after everybody else's
                piece = next(iter(asked.waiting))
                try:
                    stopped = home.upload_throttle.stopped
                    body = b"" if stopped else await home.disk.call(home.read_metadata, piece)
                except StorageError:
                    body = b""
                due = len(body)
                while due > 0 and home.upload_throttle.limited:
                    due -= await home.upload_throttle.acquire(due)
                if partner not in self._asked:
                    continue
                asked.waiting.pop(piece, None)
                if body:
                    self._say(partner, pack_metadata_piece(piece, home.metadata_bytes or 0, body))
                else:
                    self._say(partner, pack_metadata_reject(piece))
        finally:
            self._serving = False

    def _say(self, partner: Partner, payload: bytes) -> None:
        number = partner.spoken.numbers.get(UT_METADATA)
        if number is not None:
            partner.say(pack_extended(number, payload))
            partner.flush()
