"""What the engine tells the floors above: values handed to one synchronous sink, after what they say is true."""

import random
from collections.abc import Callable
from typing import Literal, TypeAlias

from bittern.engine.repeats import More
from bittern.terms import InfoHash
from bittern.values import Struct


class TorrentFacts(Struct, frozen=True, kw_only=True):
    """A torrent as others may know it, at the moment of the event.

    `path` is its file or folder where it lies now, `folder` what holds it, `number` a small stable integer.
    """

    number: int
    info_hash: InfoHash
    name: str
    path: str
    folder: str
    size_bytes: int
    labels: tuple[str, ...]
    trackers: tuple[str, ...]
    downloaded_bytes: int
    watch: str = ""
    """The watched folder that it was dropped into, if it was."""
    hooks: tuple[str, ...] = ()
    """Names of hooks that shall be told of it beside those without a name."""

    @property
    def label(self) -> str:
        """The first one, or ""."""
        return self.labels[0] if self.labels else ""


class Added(Struct, frozen=True, kw_only=True):
    """A torrent that was not known before is now, durably."""

    facts: TorrentFacts
    event_id: str
    at_wall: float


class Described(Struct, frozen=True, kw_only=True):
    """The info dictionary of a torrent that came by a magnet link is here, verified and on disk: its name and its files
    are known. `from_peers`: else a .torrent of it was dropped.
    """

    facts: TorrentFacts
    from_peers: bool
    at_wall: float


class Checked(Struct, frozen=True, kw_only=True):
    """What lies on disk is known; `hashed_bytes` is what had to be read for it."""

    facts: TorrentFacts
    complete: bool
    hashed_bytes: int
    at_wall: float


class Downloaded(Struct, frozen=True, kw_only=True):
    """The last piece is verified and written (not yet synced, not yet in its final place)."""

    facts: TorrentFacts
    at_wall: float


CompletedReason: TypeAlias = Literal["downloaded", "already-complete"]


class Arrived(Struct, frozen=True, kw_only=True):
    """All of what was downloaded is synced, and yet to be moved to its final place; on record with this id."""

    facts: TorrentFacts
    event_id: str
    at_wall: float


class Completed(Struct, frozen=True, kw_only=True):
    """The data is whole, synced and in its final place, and the resume record says so."""

    facts: TorrentFacts
    event_id: str
    reason: CompletedReason
    at_wall: float


class Failed(Struct, frozen=True, kw_only=True):
    """The torrent entered `ERROR`; it is tried again by itself after `retry_in_s`."""

    facts: TorrentFacts
    event_id: str
    reason: str
    retry_in_s: float
    at_wall: float


class Recovered(Struct, frozen=True, kw_only=True):
    """The cause of an `ERROR` is gone, or a stalled download gets something again; also when it ailed in an earlier run
    and does so no more.
    """

    facts: TorrentFacts
    at_wall: float


class Held(Struct, frozen=True, kw_only=True):
    """A download waits for room on its disk: `missing_bytes` more. It goes on by itself (`Released`)."""

    facts: TorrentFacts
    missing_bytes: int


class Released(Struct, frozen=True, kw_only=True):
    """There is room for a download that was held."""

    facts: TorrentFacts


class DiskLow(Struct, frozen=True, kw_only=True):
    """Downloads on a file system are held, or its reserve is touched; told once, until `DiskRecovered`.

    `path` is a folder on it; `needed_bytes` is what has to be freed for all downloads there to go on.
    """

    path: str
    free_bytes: int
    needed_bytes: int
    event_id: str
    at_wall: float


class DiskRecovered(Struct, frozen=True, kw_only=True):
    """Nobody is held on that file system any more."""

    path: str
    free_bytes: int


class FolderAway(Struct, frozen=True, kw_only=True):
    """The disk of a folder is not mounted: its torrents are offline until `FolderBack`."""

    path: str
    reason: str
    torrents: int


class FolderBack(Struct, frozen=True, kw_only=True):
    """It is there again, and so are its torrents in a moment."""

    path: str
    torrents: int


class Rotten(Struct, frozen=True, kw_only=True):
    """Pieces of complete data do not match any more, though nobody has written to the files; they are fetched again."""

    facts: TorrentFacts
    pieces: tuple[int, ...]
    at_wall: float


class Moved(Struct, frozen=True, kw_only=True):
    """Its files lie in another folder now, durably; those of `source` are gone."""

    facts: TorrentFacts
    source: str
    at_wall: float


class Renamed(Struct, frozen=True, kw_only=True):
    """One of its files or folders has another name now, durably. Paths are below its folder, and begin with its
    root.
    """

    facts: TorrentFacts
    old: str
    new: str
    at_wall: float


class Removed(Struct, frozen=True, kw_only=True):
    """The torrent is forgotten; its data stays."""

    facts: TorrentFacts
    event_id: str
    reason: str
    at_wall: float


class Started(Struct, frozen=True, kw_only=True):
    """The torrent begins to download: the first time, and whenever it had to wait before."""

    facts: TorrentFacts
    event_id: str
    at_wall: float


class Stalled(Struct, frozen=True, kw_only=True):
    """A download has got nothing for `idle_s`, told once; `Recovered` when it gets something again."""

    facts: TorrentFacts
    event_id: str
    idle_s: float
    peers: int
    at_wall: float


class SeedingDone(Struct, frozen=True, kw_only=True):
    """A seed rule is met, and what it says is about to be done; `reason` is why it is met."""

    facts: TorrentFacts
    event_id: str
    rule: str
    action: str
    reason: str
    at_wall: float


class Loaded(Struct, frozen=True, kw_only=True):
    """All resume records have been read."""

    torrents: int
    complete: int


class Listening(Struct, frozen=True, kw_only=True):
    """Peers can reach us."""

    port: int
    addresses: tuple[str, ...]


class TrackerTrouble(Struct, frozen=True, kw_only=True):
    """A tracker's failure or warning, told when it changes; reason None: it answers again."""

    facts: TorrentFacts
    tracker: str
    reason: str | None


class PeerBanned(Struct, frozen=True, kw_only=True):
    """An address that sent bad data: that piece, or (None) a wrong info dictionary."""

    facts: TorrentFacts
    host: str
    piece: int | None


class Crashed(Struct, frozen=True, kw_only=True):
    """A bug: what failed, its traceback, and what supervision does about it."""

    where: str
    exception: BaseException
    remedy: str


class CrashedAgain(Struct, frozen=True, kw_only=True):
    """Bugs at a place whose first was told as `Crashed`, and how many there were."""

    more: More


class Warned(Struct, frozen=True, kw_only=True):
    """Something an administrator should know that belongs to no other event."""

    what: str
    detail: str


Event: TypeAlias = (
    Added
    | Described
    | Checked
    | Downloaded
    | Arrived
    | Completed
    | Failed
    | Recovered
    | Rotten
    | Held
    | Released
    | DiskLow
    | DiskRecovered
    | FolderAway
    | FolderBack
    | Moved
    | Renamed
    | Removed
    | SeedingDone
    | Started
    | Stalled
    | Loaded
    | Listening
    | TrackerTrouble
    | PeerBanned
    | Crashed
    | CrashedAgain
    | Warned
)
Sink: TypeAlias = Callable[[Event], None]


def new_event_id(now_wall: float, rng: random.Random) -> str:
    """A UUIDv7 (RFC 9562 §5.7): 48 bits of milliseconds, then random bits, so ids sort by time."""
    value = (int(now_wall * 1000) & (1 << 48) - 1) << 80 | rng.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def wall_of(event_id: str) -> float:
    """When it was made; 0 for what is no such id."""
    try:
        return int(event_id.replace("-", "")[:12], 16) / 1000
    except ValueError:
        return 0.0
