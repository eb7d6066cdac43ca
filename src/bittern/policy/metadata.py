"""Whom to ask for which piece of a torrent's info dictionary, and whom to blame when it turns out wrong (BEP 9).

Only the whole can be verified, and how long it is we know from strangers. So what comes is gathered in *drafts*: one
for each length that is claimed, to which all contribute who claim it. When a draft is wrong and several contributed,
the next ones of that length are one peer's each, so that the next wrong one has one culprit.

Memory is bound by credit: a draft is granted its length before the first request for it goes out. Drafts take turns
when there are more than may be at once.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from bittern.errors import ProtocolError
from bittern.proto.metadata import MAX_METADATA_BYTES, piece_bytes, piece_count

DRAFTS_AT_ONCE: Final = 4
REQUESTS_AT_ONCE: Final = 4
"""Of one peer: 64 KiB."""

ASKED_AT_MOST: Final = 3
"""Peers that one piece is asked of, when there is nothing else to ask for: a silent one holds up nobody."""

TIMEOUT_S: Final = 15.0
STRIKES: Final = 2
"""Requests without an answer, or rejected, in a row, after which a peer is given up."""

REJECTED_S: Final = 5.0
"""Who rejects may have its hands full: it is asked again a little later."""

TURN_S: Final = 30.0
TURN_PER_PIECE_S: Final = 1.0
"""For each piece that has come: a length that somebody only claims is worth half a minute, however long it is."""

REMEMBERED: Final = 256

Key = TypeVar("Key")


class Draft(Generic[Key]):
    """What has come of one version of the info dictionary. `sole`: whose it is, None when all may contribute."""

    __slots__ = ("asked", "by", "pieces", "size", "sole", "until")

    def __init__(self, size: int, sole: Key | None, until: float) -> None:
        self.size = size
        self.sole = sole
        self.until = until
        """Then it makes room for others that wait."""
        self.pieces: dict[int, bytes] = {}
        self.by: dict[int, Key] = {}
        self.asked: dict[int, int] = dict.fromkeys(range(piece_count(size)), 0)
        """Pieces that are missing, and how many were asked for them."""

    @property
    def complete(self) -> bool:
        return not self.asked

    def blob(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces[number] for number in range(len(self.pieces)))


class _Source(Generic[Key]):
    """One peer that says it has the metadata."""

    __slots__ = ("draft", "requested", "rests_until", "size", "strikes")

    def __init__(self, size: int) -> None:
        self.size = size
        self.draft: Draft[Key] | None = None
        self.requested: dict[int, float] = {}
        """Pieces, and since when."""
        self.strikes = 0
        self.rests_until = 0.0


class MetadataFetch(Generic[Key]):
    """One torrent's. Peers are known by (hashable) keys of the caller's. Times are the loop clock's."""

    def __init__(
        self,
        *,
        credit: Callable[[int], bool],
        give_back: Callable[[int], None],
        most_bytes: int = MAX_METADATA_BYTES,
    ) -> None:
        """`credit` grants the memory for so many bytes, or does not."""
        self._credit = credit
        self._give_back = give_back
        self._most_bytes = most_bytes
        self._sources: dict[Key, _Source[Key]] = {}
        self._drafts: list[Draft[Key]] = []
        self._soured: dict[int, None] = {}
        """Lengths of which a draft of several turned out wrong."""
        self._turns: dict[tuple[int, Key | None], int] = {}

    # -- peers ------------------------------------------------------------------------------------------------

    def join(self, key: Key, size: int) -> None:
        """The peer says how long the info dictionary is. `ProtocolError`: that cannot be."""
        if not 0 < size <= self._most_bytes:
            raise ProtocolError(f"metadata of {size} bytes")
        known = self._sources.get(key)
        if known is None:
            self._sources[key] = _Source(size)
        elif known.size != size:
            raise ProtocolError("says two lengths of the metadata")

    def leave(self, key: Key) -> None:
        """The peer is gone; what it brought stays."""
        source = self._sources.pop(key, None)
        if source is None:
            return
        self._release(source)
        self._turns.pop((source.size, key), None)
        draft = source.draft
        if draft is None or draft.complete:
            return
        if draft.sole == key or (not draft.pieces and self._deserted(draft)):
            self._dissolve(draft)

    def asks(self, key: Key, now: float) -> list[int]:
        """Pieces to request of that peer now."""
        source = self._sources.get(key)
        if source is None or source.rests_until > now:
            return []
        if source.draft is None:
            self._assign(now)
        draft = source.draft
        if draft is None:
            return []
        wanted: list[int] = []
        room = REQUESTS_AT_ONCE - len(source.requested)
        for number in self._in_order(draft):
            if len(wanted) >= room or draft.asked[number] >= ASKED_AT_MOST:
                break
            if number not in source.requested:
                wanted.append(number)
        for number in wanted:
            source.requested[number] = now
            draft.asked[number] += 1
        return wanted

    def _in_order(self, draft: Draft[Key]) -> list[int]:
        """Those first that fewest were asked for."""
        return sorted(draft.asked, key=lambda number: (draft.asked[number], number))

    # -- answers ----------------------------------------------------------------------------------------------

    def owes(self, key: Key, piece: int) -> bool:
        """Was that peer asked for that piece, and has not answered yet?"""
        source = self._sources.get(key)
        return source is not None and piece in source.requested

    def landed(self, key: Key, piece: int, total: int | None, body: bytes, now: float) -> Draft[Key] | None:
        """A piece came: the draft that is complete with it, for `judged`. `ProtocolError`: it is no piece of it."""
        source = self._sources.get(key)
        if source is None:
            return None
        if (total is not None and total != source.size) or piece >= piece_count(source.size):
            raise ProtocolError("a metadata piece of another torrent's length")
        if len(body) != piece_bytes(piece, source.size):
            raise ProtocolError(f"a metadata piece of {len(body)} bytes")
        draft = source.draft
        asked = source.requested.pop(piece, None) is not None
        if not asked or draft is None:
            # nobody asked for it, or not any more
            return None
        source.strikes = 0
        if piece not in draft.asked:
            return None
        del draft.asked[piece]
        draft.until += TURN_PER_PIECE_S
        draft.pieces[piece], draft.by[piece] = body, key
        return draft if draft.complete else None

    def rejected(self, key: Key, piece: int, now: float) -> bool:
        """The peer does not give that piece. False: it is given up."""
        source = self._sources.get(key)
        if source is not None and source.requested.pop(piece, None) is not None:
            self._unask(source, piece)
            source.strikes += 1
            source.rests_until = now + REJECTED_S
            return source.strikes <= STRIKES
        return True

    def judged(self, draft: Draft[Key], *, good: bool) -> set[Key]:
        """The hash of a complete draft is known: who has lied for sure. A good one ends it all."""
        contributors = set(draft.by.values())
        if draft in self._drafts:
            self._dissolve(draft)
        if good:
            self.close()
            return set()
        if len(contributors) == 1:
            return contributors
        self._soured[draft.size] = None
        _forget_first(self._soured)
        return set()

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now: float, *, wanted: bool = False) -> list[Key]:
        """Requests that waited too long are asked of others; gives the peers that are of no use. `wanted`: somebody
        else needs memory.
        """
        useless = []
        for key, source in self._sources.items():
            for piece in [one for one, since in source.requested.items() if now - since >= TIMEOUT_S]:
                del source.requested[piece]
                self._unask(source, piece)
                source.strikes += 1
            if source.strikes > STRIKES:
                useless.append(key)
        if wanted or any(source.draft is None for source in self._sources.values()):
            for draft in [one for one in self._drafts if now >= one.until and not one.complete]:
                self._dissolve(draft)
        return useless

    def close(self) -> None:
        """Everything is given back."""
        for draft in list(self._drafts):
            self._dissolve(draft)
        self._sources.clear()

    @property
    def held_bytes(self) -> int:
        """What was granted."""
        return sum(draft.size for draft in self._drafts)

    # -- drafts -----------------------------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        """Whoever has no draft joins one that it may contribute to; new ones are begun as far as there is room."""
        open_drafts = {(draft.size, draft.sole): draft for draft in self._drafts if not draft.complete}
        waiting: dict[tuple[int, Key | None], list[_Source[Key]]] = {}
        for key, source in self._sources.items():
            if source.draft is None:
                place = (source.size, key if source.size in self._soured else None)
                if place in open_drafts:
                    source.draft = open_drafts[place]
                else:
                    waiting.setdefault(place, []).append(source)
        for place in sorted(waiting, key=lambda one: (self._turns.get(one, 0), -len(waiting[one]))):
            if len(self._drafts) >= DRAFTS_AT_ONCE and not self._drop_deserted():
                return
            size, sole = place
            if any(one.size == size and one.sole is None for one in self._drafts):
                # complete, and about to be judged
                continue
            if not self._credit(size) and not (self._drop_deserted() and self._credit(size)):
                continue
            draft = Draft(size, sole, now + TURN_S)
            self._drafts.append(draft)
            self._turns[place] = self._turns.pop(place, 0) + 1
            _forget_first(self._turns)
            for source in waiting[place]:
                source.draft = draft

    def _deserted(self, draft: Draft[Key]) -> bool:
        """Is nobody left who contributes to it?"""
        return not any(source.draft is draft for source in self._sources.values())

    def _drop_deserted(self) -> bool:
        """Makes room, where that costs nobody who is here anything."""
        for draft in self._drafts:
            if not draft.complete and self._deserted(draft):
                self._dissolve(draft)
                return True
        return False

    def _dissolve(self, draft: Draft[Key]) -> None:
        self._drafts.remove(draft)
        self._give_back(draft.size)
        for source in self._sources.values():
            if source.draft is draft:
                source.draft = None
                source.requested.clear()

    def _release(self, source: _Source[Key]) -> None:
        for piece in source.requested:
            self._unask(source, piece)
        source.requested.clear()

    def _unask(self, source: _Source[Key], piece: int) -> None:
        if source.draft is not None and piece in source.draft.asked:
            source.draft.asked[piece] -= 1


def _forget_first(known: dict[Any, Any]) -> None:
    """The longest known go when there are too many."""
    if len(known) > REMEMBERED:
        del known[next(iter(known))]
