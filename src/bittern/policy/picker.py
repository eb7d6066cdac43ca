"""Which piece to begin next: the rarest that the peer has and nobody has begun, with random ties.

Facts that a change here must respect:

1. A piece is *had*, *begun* or *open* (neither). Only open pieces are ever picked; `begin` makes one begun.
2. How rare a piece is: `_counts`, over the peers that had not everything when they joined, plus `_seeds`, which is
   the same for all pieces and so never orders them. A peer that gets its last piece by `have` stays in `_counts`;
   when it leaves it is taken from `_seeds`, which may then be negative: the sum is right all the same, and
   `_level_out` moves it back.
3. `_levels` has a byte a piece: its count (at most `CROWDED`) while it is open, else `CLOSED`. So "an open piece of
   rarity 3" is one `bytearray.find(3)`: memchr, 3 us for 100 000 pieces, and a `have` is an addition to one byte. No
   sorted buckets are kept: they would have to be rebuilt (15 ms) whenever somebody joins.
4. A peer that joins or leaves is added or taken away in one addition of two big integers, which have 16 bits for each
   piece: 2 ms for 100 000 pieces. Lanes never overflow into each other: a count is between 0 and 65 535.
5. `_low`: no open piece has a lower level. A lower bound only; `begin` raises it.
6. With priorities (`_bands`) the levels are parted into three bands, and rarity orders within each; a piece that is not
   wanted is had from the beginning. Which band comes next for a peer is exact (`_soonest`, big integers, 10 us),
   whatever is rare elsewhere. Without them nothing of that is looked at but one slot.

What `begin` costs at 100 000 pieces, by case. A seed: one search, the first hit is right (3 us). A peer that has most
of what we need: some hits of a search, each tried (5 us). A peer that has nothing for us, asked again and again while
the last pieces are under way: two big integers compared (10 us). A peer with few pieces, most of them begun: after
`TRIES` vain hits its own open pieces are listed instead, `SAMPLE` at most from a random place on, and the rarest of
those is taken (60 us); so it never costs a walk over all pieces.
"""

import random
import sys
from array import array
from collections import deque
from collections.abc import Container, Iterable
from itertools import islice
from typing import Final

from bittern.policy.runs import Runs
from bittern.proto.bitfield import Bitfield
from bittern.terms import PieceIndex

CLOSED: Final = 255
"""The level of a piece that is had or begun."""

CROWDED: Final = 253
"""The highest level: pieces that so many peers have need no finer order."""

BAND_COUNT: Final = 3
BAND_LEVELS: Final = 84
BAND_CROWDED: Final = BAND_LEVELS - 1
"""With several bands each has so many of the levels, the soonest the lowest; and so its own highest."""

PROBES: Final = 4
"""Random places tried before searching: a search from a random place prefers pieces that follow a long run of begun
ones, and would so make the runs longer; where open pieces are dense a probe hits, and each is equally likely."""

TRIES: Final = 32
"""Hits of the search that one peer's pieces are compared with before its own pieces are listed."""

LEVELS_TRIED: Final = 8
"""A vain search runs over all pieces, so their number is limited too."""

SAMPLE: Final = 64
"""The rarest of so many random ones of a peer's pieces is rare enough."""

CHUNK_BYTES: Final = 64
"""Bitfields are compared in integers of this size: a few hundred nanoseconds each, whatever they hold."""

SUGGESTIONS: Final = 16
"""Suggested pieces that are remembered (BEP 6); a peer cannot make us forget rarity with more of them."""

_LANES: Final = tuple(
    array("H", [byte >> (7 - bit) & 1 for bit in range(8)]).tobytes() for byte in range(256)
)
"""For each byte of a bitfield, 8 lanes of 16 bits in the machine's order: what it adds to the counts."""

_LOW_BYTE: Final = 0 if sys.byteorder == "little" else 1
_LEVEL_OF: Final = bytes(min(count, CROWDED) for count in range(256))
_BAND_BASE: Final = bytes(min(band, BAND_COUNT - 1) * BAND_LEVELS for band in range(256))
_BASES: Final = _BAND_BASE[:BAND_COUNT]
_BAND_LEVEL_OF: Final = bytes(min(count, BAND_CROWDED) for count in range(256))
_CLOSED_ONLY: Final = bytes(CLOSED if level == CLOSED else 0 for level in range(256))


class Picker:
    """Picks over one torrent. Every bitfield that joined must leave as it is then, `peer_has` told for each new bit."""

    __slots__ = (
        "_bands",
        "_counts",
        "_have",
        "_levels",
        "_low",
        "_lows",
        "_masks",
        "_rng",
        "_runs",
        "_seeds",
        "_size",
        "_suggested",
        "_taken",
        "sequential",
        "unbegun",
    )

    def __init__(
        self,
        piece_count: int,
        have: Bitfield,
        rng: random.Random,
        *,
        wanted: Bitfield | None = None,
        bands: bytes | None = None,
        run_length: int = 1,
    ) -> None:
        """`wanted`: None for all; what is not counts as had. `bands`: a byte a piece, 0 to 2, the lower the sooner;
        None when they are alike. Then so many neighbours as `run_length` are begun together, if they are equally rare.
        """
        self._size = piece_count
        self._rng = rng
        self._runs = Runs(run_length)
        if wanted is not None:
            have = have.with_missing_from(wanted)
        self._have = have.copy()
        self._taken = have.copy()
        """Had or begun."""
        self._bands: bytes | None = None
        """Of each piece the first of its band's levels, when there are several bands."""
        self._lows: list[int] = []
        """Then instead of `_low`, one for each band."""
        self._masks: list[int] = []
        """... and the pieces of each band, as a bitfield is an integer."""
        self.sequential = False
        """Pieces are begun in their order, whatever their rarity."""
        self._counts = array("H", bytes(2 * piece_count))
        self._seeds = 0
        self._levels = bytearray(piece_count)
        for index in have.indices():
            self._levels[index] = CLOSED
        self._low = 0
        self._suggested: deque[int] = deque(maxlen=SUGGESTIONS)
        self.unbegun = piece_count - have.count
        if bands is not None:
            self.prioritize(bands)

    @property
    def wanted(self) -> int:
        """Pieces that we do not have."""
        return self._size - self._have.count

    @property
    def endgame(self) -> bool:
        """Has every piece been begun?"""
        return self.unbegun == 0

    def interesting(self, bits: Bitfield) -> bool:
        """Is there anything that we do not have?"""
        return self._have.has_any_missing_from(bits)

    def lacks(self, index: int) -> bool:
        """Do we want that piece, and not have it?"""
        return not self._have[index]

    def prioritize(self, bands: bytes | None) -> None:
        """Other bands, from now on."""
        self._bands = bands.translate(_BAND_BASE) if bands is not None else None
        self._masks = [] if self._bands is None else [_mask_of(self._bands, base) for base in _BASES]
        self._relevel()
        self._low, self._lows = 0, [*_BASES]

    # -- what the peers have --------------------------------------------------------------------------------

    def peer_joined(self, bits: Bitfield) -> None:
        """A peer's first word on what it has."""
        if bits.all:
            self._seeds += 1
        elif not bits.none:
            self._add(_lanes_of(bits))

    def peer_left(self, bits: Bitfield) -> None:
        """The peer is gone, with these pieces."""
        if bits.all:
            self._seeds -= 1
            if self._seeds < 0:
                self._level_out()
        elif not bits.none:
            self._add(-_lanes_of(bits))

    def peer_has(self, index: int) -> None:
        """A peer got one more piece."""
        counts, levels = self._counts, self._levels
        counts[index] += 1
        if levels[index] < CROWDED and (
            self._bands is None or levels[index] - self._bands[index] < BAND_CROWDED
        ):
            levels[index] += 1

    def suggested(self, index: int) -> None:
        """BEP 6: preferred among pieces that are equally rare."""
        if self._levels[index] != CLOSED and index not in self._suggested:
            self._suggested.append(index)

    def availability(self) -> bytes:
        """Of each piece how many of those who joined have it; 255 stands for more, too."""
        seeds, counts = self._seeds, self._counts.tobytes()
        if any(counts[1 - _LOW_BYTE :: 2]):
            return bytes([min(count + seeds, 255) for count in self._counts])
        return counts[_LOW_BYTE::2].translate(bytes(min(count + seeds, 255) for count in range(256)))

    def _add(self, lanes: int) -> None:
        counts = int.from_bytes(self._counts.tobytes(), sys.byteorder) + lanes
        blob = counts.to_bytes(2 * self._size, sys.byteorder)
        self._counts = array("H", blob)
        self._relevel(blob)
        if lanes < 0:
            self._low = max(0, self._low - 1)
            if self._bands is not None:
                self._lows = [
                    max(*one) for one in zip(_BAND_BASE, (low - 1 for low in self._lows), strict=False)
                ]

    def _relevel(self, blob: bytes | None = None) -> None:
        """Levels of all open pieces, from their counts (`blob`: as bytes)."""
        blob = self._counts.tobytes() if blob is None else blob
        levels = blob[_LOW_BYTE::2].translate(_LEVEL_OF if self._bands is None else _BAND_LEVEL_OF)
        if any(blob[1 - _LOW_BYTE :: 2]):
            most = CROWDED if self._bands is None else BAND_CROWDED
            levels = bytes([min(count, most) for count in self._counts])
        merged = int.from_bytes(levels, "little")
        if self._bands is not None:
            # no sum is more than a byte holds
            merged += int.from_bytes(self._bands, "little")
        merged |= int.from_bytes(self._levels.translate(_CLOSED_ONLY), "little")
        self._levels = bytearray(merged.to_bytes(self._size, "little"))

    def _level_of(self, index: int) -> int:
        count = self._counts[index]
        if self._bands is None:
            return min(count, CROWDED)
        return self._bands[index] + min(count, BAND_CROWDED)

    def _level_out(self) -> None:
        """A peer that is counted piece by piece left as a seed: every count is at least one."""
        self._seeds += 1
        self._add(-_lanes_of(Bitfield.full(self._size)))

    # -- picking --------------------------------------------------------------------------------------------

    def begin(
        self, peer_bits: Bitfield, *, random_first: bool, fast: Container[int] | None = None
    ) -> PieceIndex | None:
        """The piece to begin with this peer, begun from now on; None when it has none for us.

        `random_first` takes any instead of the rarest; `fast` restricts the choice (allowed-fast, while choked).
        """
        if self.unbegun == 0:
            return None
        if fast is not None:
            index = self._rarest_of(self._allowed(peer_bits, fast))
        elif (next_of_run := self._next_of_run(peer_bits)) is not None:
            index = next_of_run
        elif not self._taken.has_any_missing_from(peer_bits):
            return None
        elif self.sequential:
            index = self._next(peer_bits)
        else:
            anything = random_first and self._bands is None
            index = self._any(peer_bits) if anything else self._rarest(peer_bits)
            if index is not None and self._bands is None:
                index = self._runs.begin(self._levels, peer_bits, index)
        if index is None:
            return None
        self._close(index)
        return PieceIndex(index)

    def reopened(self, index: int) -> None:
        """A begun piece was given up: it may be picked again."""
        if self._taken[index] and not self._have[index]:
            self._taken.clear(index)
            self.unbegun += 1
            level = self._level_of(index)
            self._levels[index] = level
            self._low = min(self._low, level)
            self._runs.reopened(index)
            if self._bands is not None:
                band = self._bands[index] // BAND_LEVELS
                self._lows[band] = min(self._lows[band], level)

    def done(self, index: int) -> None:
        """We have the piece."""
        if not self._taken[index]:
            self._close(index)
        self._have.set(index)

    def _close(self, index: int) -> None:
        self._taken.set(index)
        self._levels[index] = CLOSED
        self.unbegun -= 1

    def _next_of_run(self, bits: Bitfield) -> int | None:
        """What the run under way goes on with, while nothing that this peer may have is rarer: others began it, and
        may have had nothing better. With bands there are no runs.
        """
        level = self._runs.level
        if level is None or self.sequential or self._bands is not None:
            return None
        self._raise_low()
        if level > (self._low if bits.all else max(self._low, 1)):
            self._runs.end()
            return None
        return self._runs.follow(self._levels, bits)

    def _raise_low(self) -> None:
        """To the lowest level that an open piece has; when there are any."""
        while self._levels.find(self._low) < 0:
            self._low += 1

    def _rarest(self, bits: Bitfield) -> int | None:
        levels, band, among = self._levels, None, None
        if self._bands is not None:
            band, open_bits = self._soonest(bits)
            among = open_bits.to_bytes(len(bits.to_bytes()))
        else:
            self._raise_low()
        index = self._search(bits, band)
        if index is None:
            index = self._rarest_of(self._sample(bits, among))
        if index is not None and self._suggested:
            level = levels[index]
            for suggested in self._suggested:
                if levels[suggested] == level and bits[suggested]:
                    return suggested
        return index

    def _soonest(self, bits: Bitfield) -> tuple[int, int]:
        """The first band of which the peer has open pieces, and these; with bands, and when there are any."""
        open_bits = int.from_bytes(bits.to_bytes()) & ~int.from_bytes(self._taken.to_bytes())
        return next((band, here) for band, mask in enumerate(self._masks) if (here := open_bits & mask))

    def _search(self, bits: Bitfield, band: int | None) -> int | None:
        """The rarest (of that band) by comparing open pieces, rarest first, with what the peer has; None when that
        takes too long.
        """
        levels, size, random_of = self._levels, self._size, self._rng.random
        tries = TRIES
        # Only a seed can have what no counted peer has.
        lowest = self._low if bits.all else max(self._low, 1)
        tried = range(lowest, min(lowest + LEVELS_TRIED, CLOSED))
        if band is not None:
            tried = self._levels_of_band(band, seed=bits.all)
        for level in tried:
            for _ in range(PROBES):
                index = int(random_of() * size)
                if levels[index] == level and bits[index]:
                    return index
            start = int(random_of() * size)
            for first, last in ((start, size), (0, start)):
                index = levels.find(level, first, last)
                while index >= 0:
                    if bits[index]:
                        return index
                    tries -= 1
                    if tries == 0:
                        return None
                    index = levels.find(level, index + 1, last)
        return None

    def _levels_of_band(self, band: int, *, seed: bool) -> range:
        """The first levels of it that open pieces have, and some above them."""
        base, low = _BASES[band], self._lows[band]
        while low < base + BAND_CROWDED and self._levels.find(low) < 0:
            low += 1
        self._lows[band] = low
        lowest = low if seed else max(low, base + 1)
        return range(lowest, min(lowest + LEVELS_TRIED, base + BAND_LEVELS))

    def _next(self, bits: Bitfield) -> int | None:
        """The first open piece that the peer has, of the lowest band that has any."""
        theirs, taken = bits.to_bytes(), self._taken.to_bytes()
        if self._bands is not None:
            return len(theirs) * 8 - self._soonest(bits)[1].bit_length()
        for start in range(0, len(theirs), CHUNK_BYTES):
            chunk = theirs[start : start + CHUNK_BYTES]
            open_bits = int.from_bytes(chunk, "big") & ~int.from_bytes(
                taken[start : start + CHUNK_BYTES], "big"
            )
            if open_bits:
                return (start + len(chunk)) * 8 - open_bits.bit_length()
        return None

    def _any(self, bits: Bitfield) -> int | None:
        levels, size, random_of = self._levels, self._size, self._rng.random
        for _ in range(2 * PROBES):
            index = int(random_of() * size)
            if levels[index] != CLOSED and bits[index]:
                return index
        sample = self._sample(bits)
        return self._rng.choice(sample) if sample else None

    def _rarest_of(self, candidates: list[int]) -> int | None:
        if not candidates:
            return None
        levels, random_of = self._levels, self._rng.random
        return min(candidates, key=lambda index: (levels[index], random_of()))

    def _allowed(self, bits: Bitfield, fast: Container[int]) -> list[int]:
        levels = self._levels
        among = fast if isinstance(fast, Iterable) else bits.indices()
        found = (index for index in among if levels[index] != CLOSED and bits[index] and index in fast)
        return list(islice(found, SAMPLE))

    def _sample(self, bits: Bitfield, among: bytes | None = None) -> list[int]:
        """Open pieces that the peer has (of these): all, or about `SAMPLE` from a random place on."""
        theirs, taken = bits.to_bytes() if among is None else among, self._taken.to_bytes()
        starts = range(0, len(theirs), CHUNK_BYTES)
        turn = int(self._rng.random() * len(starts))
        found: list[int] = []
        for start in (*starts[turn:], *starts[:turn]):
            chunk = theirs[start : start + CHUNK_BYTES]
            open_bits = int.from_bytes(chunk, "big") & ~int.from_bytes(
                taken[start : start + CHUNK_BYTES], "big"
            )
            if open_bits:
                last = (start + len(chunk)) * 8
                while open_bits:
                    lowest = open_bits & -open_bits
                    found.append(last - lowest.bit_length())
                    open_bits ^= lowest
                if len(found) >= SAMPLE:
                    break
        return found

    def check(self, crowd: Iterable[Bitfield]) -> None:
        """Asserts that everything here follows from who is connected: for tests."""
        counts = [0] * self._size
        for bits in crowd:
            for index in bits.indices():
                counts[index] += 1
        assert counts == [count + self._seeds for count in self._counts]
        assert self._seeds >= 0
        for index, level in enumerate(self._levels):
            assert level == (CLOSED if self._taken[index] else self._level_of(index))
            assert level >= self._low or level == CLOSED
            assert self._bands is None or level >= self._lows[self._bands[index] // BAND_LEVELS]
            assert self._taken[index] or not self._have[index]
        assert self.unbegun == self._size - self._taken.count


def _mask_of(bands: bytes, base: int) -> int:
    flags = bands.translate(bytes(ord("1") if byte == base else ord("0") for byte in range(256)))
    return int(flags + b"0" * (-len(flags) % 8) or b"0", 2)


def _lanes_of(bits: Bitfield) -> int:
    return int.from_bytes(_lane_bytes(bits), sys.byteorder)


def _lane_bytes(bits: Bitfield) -> bytes:
    return b"".join(map(_LANES.__getitem__, bits.to_bytes()))[: 2 * len(bits)]
