"""Gathers a torrent's info dictionary from peers that say they have it (BEP 9): asks for pieces, and judges the whole.

It can only be verified as a whole, and how long it is strangers say: what that makes necessary is decided in
`policy/metadata.py`. Memory for what is not whole yet is granted to all torrents from one budget.
"""

import hashlib
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.engine.extensions import Partner
from bittern.engine.metadata_peer import MetadataPeer
from bittern.engine.throttle import RateLimit
from bittern.errors import ProtocolError
from bittern.policy.metadata import Draft, MetadataFetch
from bittern.proto.extension import UT_METADATA, UT_PEX, ExtensionHandshake
from bittern.proto.messages import pack_extended
from bittern.proto.metadata import (
    METADATA_PIECE_BYTES,
    MetadataPiece,
    MetadataReject,
    MetadataRequest,
    pack_metadata_reject,
    pack_metadata_request,
    parse_metadata_message,
)
from bittern.terms import Address, InfoHash

NUMBER: Final = 2
LONGEST_BYTES: Final = METADATA_PIECE_BYTES + 1024

HELD_AT_MOST: Final = 64 * 1024 * 1024
"""What all torrents together may hold of metadata that is not whole yet."""

WANTED_S: Final = 5.0
"""So long it counts that somebody was refused memory."""

HASHED_AT_ONCE_BYTES: Final = 1024 * 1024
"""More is hashed in a thread."""


class MetadataMemory:
    """Granted to all who gather metadata."""

    def __init__(self, most_bytes: int = HELD_AT_MOST) -> None:
        self.left_bytes = most_bytes
        self._refused_at = -math.inf

    def wanted(self, now: float) -> bool:
        """Was somebody refused some lately? Then nobody keeps it for longer than a turn."""
        return now - self._refused_at < WANTED_S

    def credit(self, size: int) -> bool:
        """False when there is not so much left."""
        if size > self.left_bytes:
            self._refused_at = trio.current_time()
            return False
        self.left_bytes -= size
        return True

    def give_back(self, size: int) -> None:
        """What was granted."""
        self.left_bytes += size


class Seeks(Protocol):
    """The swarm that it is gathered for."""

    download_throttle: RateLimit

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Among its own, while it lives."""

    def has_found(self, info: bytes) -> None:
        """This is the info dictionary."""

    def lied(self, host: str) -> None:
        """Somebody there sent one that is wrong."""

    def speaks_of_peers(self, address: Address) -> None:
        """Somebody there has the metadata, and speaks of peers."""


class Gathering:
    """ut_metadata while we lack it: an `Extension` of its swarm."""

    name = UT_METADATA
    number = NUMBER
    longest_bytes = LONGEST_BYTES

    def __init__(self, swarm: Seeks, info_hash: InfoHash, *, memory: MetadataMemory, disk: DiskGate) -> None:
        self._swarm = swarm
        self._info_hash = info_hash
        self._memory = memory
        self._disk = disk
        self._sources: dict[Partner, None] = {}
        """Who says that they have it."""
        self._fetch: MetadataFetch[Partner] = MetadataFetch(credit=memory.credit, give_back=memory.give_back)

    def close(self) -> None:
        """Gives the memory back."""
        self._fetch.close()

    def met(self, partner: Partner, told: ExtensionHandshake) -> None:
        if told.metadata_size is not None:
            self._fetch.join(partner, told.metadata_size)
            self._sources[partner] = None
            if UT_PEX in partner.spoken.numbers:
                self._swarm.speaks_of_peers(partner.address)
            if isinstance(partner, MetadataPeer):
                partner.offers = True
            self._ask(partner)

    def heard(self, partner: Partner, payload: bytes) -> bool:
        now = trio.current_time()
        match parse_metadata_message(payload):
            case MetadataRequest(piece):
                number = partner.spoken.numbers.get(UT_METADATA)
                if number is not None:
                    partner.say(pack_extended(number, pack_metadata_reject(piece)))
                return False
            case MetadataReject(piece):
                if not self._fetch.rejected(partner, piece, now):
                    raise ProtocolError("has metadata, and gives none")
                return False
            case MetadataPiece(piece, total, body):
                asked = self._fetch.owes(partner, piece)
                draft = self._fetch.landed(partner, piece, total, body, now)
                if asked and isinstance(partner, MetadataPeer):
                    partner.useful = True
                if draft is not None:
                    self._complete(draft)
                self._ask(partner)
                return asked
            case _:
                return False

    def left(self, partner: Partner) -> None:
        self._sources.pop(partner, None)
        self._fetch.leave(partner)

    def tick(self, now: float) -> None:
        for useless in self._fetch.tick(now, wanted=self._memory.wanted(now)):
            useless.close()
        self._ask_all()

    def _ask_all(self) -> None:
        for partner in self._sources:
            self._ask(partner)

    def _ask(self, partner: Partner) -> None:
        """For what is to be asked of it now."""
        number = partner.spoken.numbers.get(UT_METADATA)
        if number is None or self._swarm.download_throttle.stopped:
            return
        for piece in self._fetch.asks(partner, trio.current_time()):
            partner.say(pack_extended(number, pack_metadata_request(piece)))

    def _complete(self, draft: Draft[Partner]) -> None:
        """All pieces of a draft are there."""
        if draft.size <= HASHED_AT_ONCE_BYTES:
            self._judge(draft, draft.blob(), _digest(draft.blob()))
        else:
            self._swarm.start(partial(self._judge_large, draft))

    async def _judge_large(self, draft: Draft[Partner]) -> None:
        blob = draft.blob()
        self._judge(draft, blob, await self._disk.call(_digest, blob))

    def _judge(self, draft: Draft[Partner], blob: bytes, digest: bytes) -> None:
        good = digest == self._info_hash
        for liar in self._fetch.judged(draft, good=good):
            self._swarm.lied(liar.address.host)
        if good:
            self._swarm.has_found(blob)
        else:
            self._ask_all()


def _digest(blob: bytes) -> bytes:
    return hashlib.sha1(blob).digest()
