"""The lean record of one torrent and its state machine. Synchronous; no task, timer or descriptor belongs to it.

    (METADATA →) QUEUED → CHECKING → DOWNLOADING → (MOVING →) SEEDING;  any → ERROR → QUEUED;  any → STOPPED → QUEUED
    DOWNLOADING → HELD → QUEUED (no room on its disk);  any → OFFLINE → QUEUED (its disk is not mounted)

*Live or parked* is not a state: it is whether the session has a swarm for it. What must survive a restart is in
`record`; what the rest of a run needs is beside it. `have` speaks of pieces verified and written, `record.have` only
of those that were also synced to the disk when the record was last written.
"""

import contextlib
import enum
import os.path
from typing import Final, Protocol

from bittern.discovery.announced import AnnounceFacts
from bittern.discovery.dht import DhtFacts
from bittern.disk.resume import ResumeRecord
from bittern.disk.storage import Storage
from bittern.engine.events import TorrentFacts
from bittern.errors import ProtocolError
from bittern.policy.announcing import AnnounceState
from bittern.policy.labels import labels_in
from bittern.proto.bitfield import Bitfield
from bittern.terms import BLOCK_SIZE, Address, InfoHash


class State(enum.Enum):
    """What a torrent is about."""

    METADATA = "metadata"
    """It came by a magnet link: its info dictionary is fetched from peers."""
    QUEUED = "queued"
    CHECKING = "checking"
    DOWNLOADING = "downloading"
    MOVING = "moving"
    SEEDING = "seeding"
    ERROR = "error"
    STOPPED = "stopped"
    HELD = "held"
    OFFLINE = "offline"


RESTING: Final = frozenset({State.STOPPED, State.OFFLINE})
"""Files of torrents in these are not to be touched."""


class Owner(Protocol):
    """What a torrent tells its session."""

    def state_changed(self, torrent: "Torrent", before: State) -> None:
        """It is in another state than before."""

    def addresses_found(self, torrent: "Torrent", addresses: tuple[Address, ...]) -> None:
        """A tracker named peers."""

    def tracker_switched(self, torrent: "Torrent") -> None:
        """From now on a private torrent's peers are another tracker's."""

    def tracker_answered(self, torrent: "Torrent", url: str, trouble: str | None) -> None:
        """A tracker's trouble changed."""

    def dht_found(self, torrent: "Torrent", addresses: tuple[Address, ...]) -> None:
        """The DHT named peers."""

    def neighbour_found(self, torrent: "Torrent", address: Address) -> None:
        """Somebody on our networks has it."""

    def wants_peers(self, torrent: "Torrent") -> bool:
        """Is there room and need for more peers?"""

    def lacks_peers(self, torrent: "Torrent") -> bool:
        """Has it next to none?"""


class Torrent:
    """One torrent. Owned by the session from add to remove."""

    __slots__ = (
        "_state",
        "announce",
        "banned",
        "believed",
        "counted",
        "dial_again_at",
        "downloaded_before",
        "downloading_at",
        "error",
        "failures",
        "first_check",
        "have",
        "moved_at",
        "owner",
        "progress_at",
        "ready",
        "record",
        "resting",
        "retried_at",
        "retry_at",
        "stalled",
        "unsynced_files",
        "unsynced_storage",
        "untold_hashed_bytes",
        "uploaded_before",
        "vain_wakes",
        "wanted",
    )

    def __init__(self, record: ResumeRecord, announce: AnnounceState, owner: Owner) -> None:
        self.record = record
        self.announce = announce
        self.owner = owner
        if record.stopped:
            self._state = State.STOPPED
        else:
            self._state = State.SEEDING if record.state == "complete" else State.QUEUED
        self.ready = False
        """It is queued, and checked: all that it waits for is leave to run."""
        self.progress_at = 0.0
        """When it was given or gave something last; in this run."""
        self.moved_at = 0.0
        """When something of it went over the wire last; in this run."""
        self.downloading_at = 0.0
        """Since when it downloads; in this run, and only while it does."""
        self.stalled = False
        """It runs, and nothing comes of it."""
        self.have: Bitfield | None = None
        """None: nothing when incomplete, everything when complete."""
        if record.state == "complete" and record.have:
            self.have = Bitfield.from_bytes(record.piece_count, record.have)
        self.believed = False
        """`have` is only what its record says: nobody has looked since."""
        self.wanted: Bitfield | None = None
        """Pieces of wanted files; None: all are."""
        self.selection_changed()
        self.error = ""
        self.retry_at: float | None = None
        self.retried_at = 0.0
        self.failures = 0
        self.first_check = not record.checked
        """Nobody was told yet what lies on disk, and nothing was made there."""
        self.untold_hashed_bytes = 0
        """Read by checks of which nobody was told yet."""
        self.resting: bytes = b""
        """The best addresses and their back-off, packed, while there is no swarm to remember them."""
        self.vain_wakes = 0
        """How often in a row it woke and dialled, and nothing came of it."""
        self.dial_again_at = 0.0
        """Until then it is not woken to dial those again."""
        self.counted: tuple[int, int] | None = None
        """Seeds and others, as the DHT estimates them."""
        self.banned: dict[str, None] | None = None
        """Hosts that sent bad data, if any did: they shall not come back with the next swarm."""
        self.unsynced_storage: Storage | None = None
        self.unsynced_files: set[int] | None = None
        """Files that pieces were written to since the last flush, if any were. Who takes it leaves None: it grows in
        place, for a new set for each piece took 0.12 s of a download of ten thousand files, which takes 1.7 s.
        """
        self.uploaded_before = record.uploaded_bytes
        self.downloaded_before = record.downloaded_bytes

    @property
    def state(self) -> State:
        """What it is about; its owner hears of each change."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        before, self._state = self._state, state
        if state is not before:
            self.owner.state_changed(self, before)

    @property
    def info_hash(self) -> InfoHash:
        return self.record.info_hash

    @property
    def private(self) -> bool:
        """Its trackers' own (BEP 27)."""
        return self.record.private

    def selection_changed(self) -> None:
        """Its record says which pieces are wanted."""
        record = self.record
        self.wanted = Bitfield.from_bytes(record.piece_count, record.wanted) if record.wanted else None

    @property
    def complete(self) -> bool:
        """Is every wanted piece verified and written? (Committed is more: `record.state`.)"""
        return self.record.state == "complete" or (self.have is not None and self.satisfied_by(self.have))

    @property
    def whole(self) -> bool:
        """Is every piece verified and written?"""
        return self.record.state == "complete" if self.have is None else self.have.all

    def satisfied_by(self, have: Bitfield) -> bool:
        """Are all wanted pieces among these?"""
        return have.all or (self.wanted is not None and not have.has_any_missing_from(self.wanted))

    @property
    def wants_nothing(self) -> bool:
        """Are all of its files skipped?"""
        return self.wanted is not None and self.wanted.none

    @property
    def pieces(self) -> Bitfield:
        """Those that are verified and written; not to be changed."""
        if self.have is not None:
            return self.have
        count = self.record.piece_count
        return Bitfield.full(count) if self.record.state == "complete" else Bitfield(count)

    @property
    def claimed(self) -> Bitfield:
        """The same; and of one that nobody has looked at in this run what its record says. Not to be changed."""
        record = self.record
        if self.have is None and record.state != "complete" and record.have:
            with contextlib.suppress(ProtocolError):
                return Bitfield.from_bytes(record.piece_count, record.have)
        return self.pieces

    @property
    def nothing_claimed(self) -> bool:
        """Was no piece of it ever ours?"""
        if self.record.state == "complete" and not self.record.have:
            return False
        return self.have.none if self.have is not None else not any(self.record.have)

    @property
    def reachable(self) -> bool:
        """May peers talk to it now?"""
        if self.state is State.MOVING:
            # what arrived would be written to files that are gone
            return self.complete and not self.record.stopped
        return self.state in {State.METADATA, State.DOWNLOADING, State.SEEDING}

    @property
    def data_folder(self) -> str:
        """The folder that holds its root now."""
        record = self.record
        return record.folder if record.state == "complete" else record.incomplete_folder or record.folder

    @property
    def left_bytes(self) -> int:
        """Bytes of wanted pieces that are not verified and written yet."""
        record, have, wanted = self.record, self.have, self.wanted
        if self.complete:
            return 0
        if record.state == "metadata":
            # unknown; none would be told of a seed
            return BLOCK_SIZE
        if have is None and record.have:
            # one that is stopped, or waits for its check, has not lost what it had before the start
            have = self.claimed
        if wanted is None:
            if have is None:
                return record.total_bytes
            return self._bytes_of(record.piece_count - have.count, ends=not self._ends(have))
        if have is None:
            return self._bytes_of(wanted.count, ends=self._ends(wanted))
        return self._bytes_of(have.lacking_of(wanted), ends=self._ends(wanted) and not self._ends(have))

    @property
    def missing_bytes(self) -> int:
        """The same of all pieces, also of skipped files: exact, for trackers (BEP 3, 21)."""
        if self.whole:
            return 0
        if self.record.state == "metadata":
            return self.left_bytes
        have = self.claimed
        return self._bytes_of(self.record.piece_count - have.count, ends=not self._ends(have))

    @property
    def wanted_bytes(self) -> int:
        """Of all that is wanted or there, as users count it: what it comes to when it is done. Where files are skipped
        whole pieces are counted.
        """
        record, have, wanted = self.record, self.have, self.wanted
        if wanted is None or (have is None and record.state == "complete"):
            return record.total_bytes - record.pad_bytes
        if have is None:
            return self._bytes_of(wanted.count, ends=self._ends(wanted))
        ends = self._ends(wanted) or self._ends(have)
        return self._bytes_of(have.count + have.lacking_of(wanted), ends=ends)

    def _ends(self, pieces: Bitfield) -> bool:
        """Is the last piece among these?"""
        last = self.record.piece_count - 1
        return last >= 0 and pieces[last]

    def _bytes_of(self, pieces: int, *, ends: bool) -> int:
        """Of so many; `ends`: the last, which may be shorter, is one of them."""
        record = self.record
        surplus = record.piece_count * record.piece_length - record.total_bytes
        return pieces * record.piece_length - (surplus if ends else 0)

    def dialled_in_vain(self, again_at: float) -> None:
        """Whoever was dialled in this life of its swarm, nothing came of it."""
        self.vain_wakes += 1
        self.dial_again_at = again_at

    def hopes(self) -> None:
        """A useful peer, or an address that was not tried yet: it is worth dialling again."""
        self.vain_wakes = 0
        self.dial_again_at = 0.0

    def facts(self) -> TorrentFacts:
        """What others may know."""
        record = self.record
        folder = self.data_folder
        return TorrentFacts(
            number=record.number,
            info_hash=record.info_hash,
            name=record.name,
            path=os.path.join(folder, record.root),  # noqa: PTH118 — names that are not UTF-8 travel as str
            folder=folder,
            size_bytes=self.wanted_bytes,
            labels=labels_in(record.label),
            trackers=tuple(url for tier in record.trackers for url in tier),
            downloaded_bytes=record.downloaded_bytes,
            watch=record.watch,
            hooks=tuple(record.hooks.split(",")) if record.hooks else (),
        )

    def announce_facts(self) -> AnnounceFacts:
        """What trackers are told: bytes since this run's `started` (BEP 3)."""
        uploaded = self.record.uploaded_bytes - self.uploaded_before
        downloaded = self.record.downloaded_bytes - self.downloaded_before
        if self.have is None and self.record.state == "complete":
            # nothing has to be counted, and of thousands nearly all are like that
            return AnnounceFacts(uploaded, downloaded, left=0, wants_peers=False, priority=1)
        return AnnounceFacts(
            uploaded=uploaded,
            downloaded=downloaded,
            left=self.missing_bytes,
            wants_peers=self.owner.wants_peers(self),
            priority=1 if self.complete else 0,
            # a private torrent is its trackers' own: one at a time (BEP 27)
            wide=not self.record.private and self.owner.lacks_peers(self),
            partial_seed=self.complete and not self.whole,
        )

    def peers_found(self, addresses: tuple[Address, ...]) -> None:
        """From the announcer."""
        self.owner.addresses_found(self, addresses)

    def tracker_switched(self) -> None:
        """From the announcer. Peers of one private tracker are no bridge to those of another (BEP 27)."""
        if self.record.private:
            self.owner.tracker_switched(self)

    def tracker_answered(self, url: str, trouble: str | None) -> None:
        """From the announcer."""
        self.owner.tracker_answered(self, url, trouble)

    def dht_facts(self) -> DhtFacts:
        """What the DHT is asked and told."""
        return DhtFacts(
            wants_peers=self.owner.wants_peers(self),
            seed=self.complete,
            # whom no tracker counts (BEP 33)
            scrape=not self.record.trackers,
        )

    def dht_found(self, addresses: tuple[Address, ...]) -> None:
        """From the DHT."""
        self.owner.dht_found(self, addresses)

    def dht_counted(self, seeds: int, others: int) -> None:
        """From the DHT."""
        self.counted = (seeds, others)

    @property
    def wants_peers(self) -> bool:
        """Is there room and need for more?"""
        return self.owner.wants_peers(self)

    def neighbour_found(self, address: Address) -> None:
        """From local discovery."""
        self.owner.neighbour_found(self, address)
