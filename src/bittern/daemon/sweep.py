"""What one sweep over a watched folder decides: pure, over listings and looks that others made.

The listing is the truth. What is remembered of a file hangs on its `Stamp`: while that is unchanged
nothing is read twice. A folder that is away, or another one that lies in its place, never reads as "all
removed".
"""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bittern.terms import InfoHash

SHORT_PATIENCE_S: Final = 30.0
"""A file that ends too early may still be being written; a writer that is silent for so long has given up."""

LOOK_AGAIN_S: Final = 1.0
"""Between two looks at something unsettled, and between two sweeps that miss a tied file."""

RETRY_S: Final = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Between attempts at what the file system or the state folder refused."""

BAFFLED_S: Final = 3600.0
"""A file that tripped a bug is not looked at again before it changes, or so much later: nobody mends bugs meanwhile."""

Kind: TypeAlias = Literal["file", "folder", "FIFO", "socket", "device", "broken link"]


class Identity(NamedTuple):
    """Tells a folder from every other one that is or was at its path. `born_ns` (0: the file system keeps none) is part
    of it, for the inode of a folder that was deleted goes to the next one that is made, and the root of one memory
    stick has the numbers of the next one's.
    """

    device: int
    inode: int
    born_ns: int = 0


class Stamp(NamedTuple):
    """What changes when a file does."""

    size: int
    mtime_ns: int
    inode: int


class Entry(NamedTuple):
    """One candidate in a folder; links are followed."""

    name: str
    kind: Kind
    stamp: Stamp


class Listing(NamedTuple):
    """A folder that is there, and all its candidates."""

    identity: Identity
    entries: Sequence[Entry]


@dataclass(slots=True)
class Sweep:
    """What to do now: files to look at, things to tell of once, tied torrents whose file was removed."""

    look: list[str] = field(default_factory=list)
    odd: list[tuple[str, Kind]] = field(default_factory=list)
    gone: list[InfoHash] = field(default_factory=list)


class _Kept(NamedTuple):
    stamp: Stamp
    info_hashes: tuple[InfoHash, ...]
    """Of the torrents that it brought; () when it was refused."""


@dataclass(slots=True)
class _Open:
    """A file that is neither taken nor refused yet; `since` it is as it is, `due` for another look."""

    why: Literal["short", "faulty", "trouble", "baffled"]
    stamp: Stamp | None
    since: float
    due: float
    tries: int = 0


def is_drop_name(name: str) -> bool:
    """`*.torrent` or `*.magnet` in any case; a leading dot is how writers hide what is not finished."""
    return (name[-8:].lower() == ".torrent" or is_magnet_name(name)) and not name.startswith(".")


def is_magnet_name(name: str) -> bool:
    """Does it hold links, one a line?"""
    return name[-7:].lower() == ".magnet"


class FolderState:
    """What is known of one watched folder; every method is told the time."""

    def __init__(self, *, remembered: Identity | None = None) -> None:
        """`remembered` is the folder in which an earlier run saw every tied file: one that is missing from the same
        folder now was removed meanwhile; one that is missing from any other folder proves nothing. (Its device does
        not count: devices get other numbers when the machine starts.)
        """
        self._remembered = remembered and remembered._replace(device=-1)
        self._identity: Identity | None = None
        self._kept: dict[str, _Kept] = {}
        self._open: dict[str, _Open] = {}
        self._odd: dict[str, Kind] = {}
        self._first_seen: dict[str, tuple[Stamp, float]] = {}
        self._seen: dict[str, tuple[Identity, Stamp]] = {}
        # Where each tied file was seen last in this run, and how it was; all others in `_remembered`. Not known by
        # their names: at the first sweep the session may still be reading its records.
        self._absent_since: dict[str, float] = {}
        self._swept_at = -math.inf
        self._unsettled = False
        # A kept file was replaced by that of another torrent: whose it was may be gone with it.
        self._at_rest: Listing | None = None
        # Nothing came of this one: nothing will when it comes again.

    # ---------------------------------------------------------------------------------------- sweeps

    def sweep(self, listing: Listing, tied: Mapping[str, tuple[InfoHash, ...]], now: float) -> Sweep:
        """`tied`: file names in this folder whose removal stops their torrents."""
        plan = Sweep()
        self._swept_at = now
        if listing is self._at_rest and not tied and not self._open:
            return plan
        self._at_rest, self._unsettled = None, False
        self._recognise(listing)
        names: dict[str, Stamp] = {}
        news = False
        for entry in listing.entries:
            name = entry.name
            names[name] = entry.stamp
            if entry.kind != "file":
                if self._odd.get(name) != entry.kind:
                    self._odd[name] = entry.kind
                    plan.odd.append((name, entry.kind))
                continue
            kept = self._kept.get(name)
            if kept is not None and kept.stamp == entry.stamp:
                continue
            waiting = self._open.get(name)
            news = news or waiting is None or _undecided(name, waiting)
            if waiting is not None and waiting.stamp in {None, entry.stamp} and now < waiting.due:
                continue
            plan.look.append(name)
        for memory in (self._kept, self._open, self._odd, self._first_seen):
            _forget(memory, names.keys())
        gone = self._gone(names, tied, now)
        # A tied file may only have got a new name: that is known once what is new has been looked at.
        plan.gone = [] if news else gone
        if not plan.look and not plan.odd and not tied:
            self._at_rest = listing
        return plan

    def away(self) -> None:
        """It is missing or cannot be listed."""
        self._identity = self._at_rest = None
        self._absent_since.clear()

    def home(self, tied: Mapping[str, tuple[InfoHash, ...]]) -> Identity | None:
        """The one folder in which every tied file was seen last; None when there is none."""
        places = {self._seen[name][0] if name in self._seen else self._remembered for name in tied}
        return places.pop() if len(places) == 1 else None

    def next_at(self) -> float:
        """When to sweep again even if nothing hints; `inf` when only a change could matter."""
        due = math.inf
        for waiting in self._open.values():
            # Whether a short file has grown is seen by listing alone.
            due = min(due, self._swept_at + LOOK_AGAIN_S if waiting.why == "short" else waiting.due)
        if self._absent_since or self._unsettled:
            due = min(due, self._swept_at + LOOK_AGAIN_S)
        return due

    # ---------------------------------------------------------------------------------------- looks

    def short(self, name: str, stamp: Stamp, now: float) -> bool:
        """It ends too early. True: it has for so long that it is to be refused."""
        before = self._open.get(name)
        since = before.since if before and before.why == "short" and before.stamp == stamp else now
        self._open[name] = _Open("short", stamp, since, since + SHORT_PATIENCE_S)
        return now >= since + SHORT_PATIENCE_S

    def faulty(self, name: str, stamp: Stamp, now: float) -> bool:
        """More bytes could not make it right. True: it was so before, unchanged, and is to be refused."""
        before = self._open.get(name)
        since = before.since if before and before.why == "faulty" and before.stamp == stamp else now
        self._open[name] = _Open("faulty", stamp, since, since + LOOK_AGAIN_S)
        return now >= since + LOOK_AGAIN_S

    def unsteady(self, name: str, now: float) -> None:
        """It changed while it was read."""
        self._open[name] = _Open("faulty", None, now, now + LOOK_AGAIN_S)

    def trouble(self, name: str, stamp: Stamp | None, now: float) -> bool:
        """Not its own fault: unreadable, or no room for its torrent. True: the first time, so tell."""
        before = self._open.get(name)
        tries = before.tries if before and before.why == "trouble" else 0
        wait = RETRY_S[min(tries, len(RETRY_S) - 1)]
        self._open[name] = _Open("trouble", stamp, now, now + wait, tries + 1)
        return tries == 0

    def baffled(self, name: str, stamp: Stamp | None, now: float) -> None:
        """It tripped a bug; without a stamp also a change of it is not seen before its time."""
        self._open[name] = _Open("baffled", stamp, now, now + BAFFLED_S)

    def first_seen(self, name: str, stamp: Stamp, now: float) -> float:
        """Since when it has been as it is."""
        before = self._first_seen.get(name)
        if before is None or before[0] != stamp:
            before = self._first_seen[name] = stamp, now
        return before[1]

    def kept(self, name: str, stamp: Stamp, *info_hashes: InfoHash) -> None:
        """It stays where it is, dealt with; without `info_hashes` it was refused."""
        self._open.pop(name, None)
        self._first_seen.pop(name, None)
        self._at_rest = None
        before = self._kept.get(name)
        if before is not None and not set(before.info_hashes) <= set(info_hashes):
            self._unsettled = True
        self._kept[name] = _Kept(stamp, info_hashes)
        if self._identity is not None:
            self._seen[name] = self._identity, stamp

    def left(self, name: str) -> None:
        """It is no longer there."""
        self._open.pop(name, None)
        self._kept.pop(name, None)
        self._at_rest = None

    def may_be_elsewhere(self, name: str, info_hash: InfoHash) -> bool:
        """Does another file bring that torrent, or may it, once it is decided?"""
        return any(
            info_hash in kept.info_hashes for other, kept in self._kept.items() if other != name
        ) or any(_undecided(other, waiting) for other, waiting in self._open.items() if other != name)

    # ---------------------------------------------------------------------------------------- tied files

    def _recognise(self, listing: Listing) -> None:
        identity = listing.identity
        if identity == self._identity:
            return
        self._identity = identity
        self._absent_since.clear()
        before = self._remembered
        if not identity.born_ns and not self._shows_a_known_file(listing):
            # It may be another one that was given the same numbers.
            self._seen = {name: seen for name, seen in self._seen.items() if seen[0] != identity}
            if before == identity:
                self._remembered = None
        if before in {
            Identity(-1, identity.inode, identity.born_ns),
            Identity(-1, identity.inode),  # noted without a time of birth
        }:
            self._remembered = identity

    def _shows_a_known_file(self, listing: Listing) -> bool:
        """Is a tied file there as it was?"""
        return any(self._seen.get(entry.name) == (listing.identity, entry.stamp) for entry in listing.entries)

    def _gone(
        self, names: Mapping[str, Stamp], tied: Mapping[str, tuple[InfoHash, ...]], now: float
    ) -> list[InfoHash]:
        gone = []
        absent = {}
        under_another_name: set[InfoHash] | None = None
        here = self._identity
        assert here is not None
        _forget(self._seen, names.keys() | tied.keys())
        for name, info_hashes in tied.items():
            if name in names:
                self._seen[name] = here, names[name]
                info_hashes = self._not_in_it(name, names[name], info_hashes)
                if not info_hashes:
                    continue
            elif (self._seen[name][0] if name in self._seen else self._remembered) != here:
                continue
            if under_another_name is None:
                under_another_name = {one for kept in self._kept.values() for one in kept.info_hashes}
            missed = [one for one in info_hashes if one not in under_another_name]
            if not missed:
                continue
            absent[name] = self._absent_since.get(name, now)
            if now >= absent[name] + LOOK_AGAIN_S:
                gone += missed
        self._absent_since = absent
        return gone

    def _not_in_it(self, name: str, stamp: Stamp, tied: tuple[InfoHash, ...]) -> tuple[InfoHash, ...]:
        """What was taken out of a file that is there while it stood in another one too."""
        kept = self._kept.get(name)
        if kept is None or not kept.info_hashes or kept.info_hashes == tied or kept.stamp != stamp:
            return ()
        return tuple([one for one in tied if one not in kept.info_hashes])


def _undecided(name: str, waiting: _Open) -> bool:
    """Links are taken in at the second look only."""
    return waiting.why == "faulty" and is_magnet_name(name)


def _forget(memory: dict[str, Any], names: AbstractSet[str]) -> None:
    for name in memory.keys() - names:
        del memory[name]
