"""From a record to something that can be read and written: metainfo, layout, paths, storage. Runs in a disk thread."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bittern.disk.attempt import JobCrashed, attempt
from bittern.disk.files import OpenFiles
from bittern.disk.parts import NO_PARTS, Parts, unpack_files
from bittern.disk.paths import plan_paths
from bittern.disk.places import Places
from bittern.disk.renames import renamed
from bittern.disk.resume import ResumeRecord
from bittern.disk.stamps import stamp_of
from bittern.disk.storage import Storage, bring
from bittern.disk.visit import Visit
from bittern.engine.fresh_metainfo import FreshMetainfo
from bittern.engine.store import Store
from bittern.errors import FileSelectionError, MetainfoError, PlaceGone, StorageError
from bittern.policy.rights import NO_RIGHTS, from_text
from bittern.policy.selection import SKIP, piece_bands, skipped_files, unpack_levels
from bittern.proto.layout import Layout
from bittern.proto.metadata import METADATA_PIECE_BYTES
from bittern.proto.metainfo import Metainfo, parse_metainfo
from bittern.terms import InfoHash


class Told(NamedTuple):
    """What a .torrent says for people, where it does."""

    comment: str
    creator: str
    created_wall: int
    web_seeds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A torrent's data as it lies on disk. `storage` holds no descriptor until it is used."""

    layout: Layout
    names: tuple[str | None, ...]
    """Where its files lie below the folder, or would; None for pads."""
    storage: Storage
    piece_hashes: bytes
    info_span: tuple[int, int]
    """Where the info dictionary lies in the stored .torrent."""
    levels: str
    """Of its files (`policy.selection`)."""
    told: Told

    @property
    def paths(self) -> tuple[str | None, ...]:
        """The same, None also for those whose bytes lie apart."""
        apart = self.storage.parts.files
        if not apart:
            return self.names
        return tuple([None if index in apart else name for index, name in enumerate(self.names)])

    @property
    def pads(self) -> frozenset[int]:
        """Files that are on no disk (BEP 47)."""
        return frozenset(index for index, name in enumerate(self.names) if name is None)

    @property
    def bands(self) -> bytes | None:
        """How soon each piece is wanted; None: all alike."""
        return piece_bands(self.levels, self.layout, self.pads)

    @property
    def metadata_bytes(self) -> int:
        """Its length."""
        return self.info_span[1] - self.info_span[0]


class Opener:
    """Opens torrents; stateless but for where things are, and what is `fresh`."""

    def __init__(self, store: Store, files: OpenFiles, places: Places) -> None:
        self._store = store
        self._files = files
        self.places = places
        self.fresh = FreshMetainfo()
        self.rights = NO_RIGHTS
        """Of what is made for torrents that have none of their own."""

    def open(self, record: ResumeRecord, folder: str, root: str) -> Opened:
        """The torrent's data below `folder/root`; `StorageError` when the stored .torrent is gone or damaged."""
        return self._open(self.metainfo(record), record, folder, root)

    def _open(
        self,
        metainfo: Metainfo,
        record: ResumeRecord,
        folder: str,
        root: str,
        apart: frozenset[int] | None = None,
    ) -> Opened:
        """`apart`: files whose bytes lie apart, if they are not those of the record."""
        layout = Layout.of(metainfo)
        names = tuple(renamed(plan_paths(metainfo, root), record.renames))
        levels, parts = unpack_levels("", len(names)), NO_PARTS
        if record.selection:
            with contextlib.suppress(FileSelectionError):
                levels = unpack_levels(record.selection, len(names))
        if record.selection or record.parted or apart:
            if apart is None:
                apart = unpack_files(record.parted, len(names))
            skipped = frozenset(index for index in skipped_files(levels) if names[index] is not None)
            parts = Parts(self._store.parts_path(record.info_hash), apart, skipped)
        told = Told(
            metainfo.comment or "",
            metainfo.created_by or "",
            metainfo.creation_date or 0,
            metainfo.web_seeds,
        )
        place = self.places.of(folder)
        storage = Storage(
            self._files,
            folder,
            names,
            layout,
            read_only=record.shared,
            place=place,
            parts=parts,
            of=record.info_hash,
            rights=from_text(record.rights).over(self.rights),
        )
        return Opened(layout, names, storage, metainfo.piece_hashes, metainfo.info_span, levels, told)

    def metainfo(self, record: ResumeRecord) -> Metainfo:
        """What the stored .torrent says; `StorageError` as above."""
        fresh = self.fresh.of(record.info_hash)
        if fresh is not None:
            return fresh
        try:
            metainfo = parse_metainfo(self._store.metainfo(record.info_hash))
        except MetainfoError as error:
            raise StorageError(f"the stored .torrent is damaged ({error}); drop it again") from error
        if metainfo.info_hash != record.info_hash:
            raise StorageError("the stored .torrent is that of another torrent; drop the right one again")
        return metainfo

    def metadata_piece(self, info_hash: InfoHash, info_span: tuple[int, int], piece: int) -> bytes:
        """A piece of the info dictionary (BEP 9) out of the stored .torrent; `StorageError`."""
        start, end = info_span
        at = start + piece * METADATA_PIECE_BYTES
        return self._store.part_of_metainfo(info_hash, at, min(METADATA_PIECE_BYTES, end - at))

    def sorted_out(self, record: ResumeRecord, folder: str) -> tuple[Opened, frozenset[int]]:
        """The same as `open`, once the bytes of all files lie where the selection wants them: those of skipped files
        apart when they are not there, those of others at their places. Second: files whose bytes are not known to be
        where they were before. Nobody may write to the torrent meanwhile. The .torrent is kept `fresh`: whoever checks
        it drops that.
        """
        metainfo = self.metainfo(record)
        self.fresh.keep(metainfo)
        opened = self._open(metainfo, record, folder, record.root)
        before = opened.storage.parts
        again = before.files - before.skipped
        missing = opened.storage.missing(before.skipped - before.files)
        if not again and not missing:
            return opened, frozenset()
        after = self._open(metainfo, record, folder, record.root, (before.files - again) | missing)
        # what somebody has put there in the meantime is not written over, but looked at
        there = again - after.storage.missing(again)
        for index in sorted(again - there):
            bring(index, opened.storage, after.storage)
        if again:
            after.storage.prepare(preallocate=False)
            after.storage.sync(again - after.storage.missing(again))
        opened.storage.close()
        return after, missing | there

    def keep_paths(self, record: ResumeRecord, opened: Opened) -> None:
        """For `are_unchanged`, from now on."""
        if not record.lone:
            self._store.keep_paths(record.info_hash, opened.names)

    def drop_parts(self, record: ResumeRecord) -> None:
        """None of its files has bytes apart, and its record says so. In a thread."""
        self._store.drop_parts(record.info_hash)

    def are_unchanged(self, records: Sequence[ResumeRecord]) -> list[bool | JobCrashed]:
        """Do all files of complete torrents look as their records say? No .torrent is opened; False when only that
        could tell. Their folders are opened once for all.
        """
        with Visit() as visit:
            return [attempt(self._is_unchanged, record, visit) for record in records]

    def _is_unchanged(self, record: ResumeRecord, visit: Visit) -> bool:
        paths = (record.root,) if record.lone else self._store.paths(record.info_hash)
        if paths is None or len(paths) != len(record.stamps):
            return False
        try:
            place = self.places.of(record.folder)
            at = visit.folder(place)
            if at is None:
                place.require_path()
            above = "" if at is not None else f"{record.folder}/"
            apart = unpack_files(record.parted, len(paths)) if record.parted else frozenset()
            shared = stamp_of(self._store.parts_path(record.info_hash)) if apart else None
            return all(
                stamp == (None if path is None else shared if index in apart else stamp_of(above + path, at))
                for index, (path, stamp) in enumerate(zip(paths, record.stamps, strict=True))
            )
        except (OSError, PlaceGone):
            return False


def unsorted(record: ResumeRecord) -> bool:
    """Is a file wanted whose bytes lie apart?"""
    if not record.parted:
        return False
    count = len(record.stamps)
    try:
        levels = unpack_levels(record.selection, count)
    except FileSelectionError:
        return False
    return any(levels[index] != SKIP for index in unpack_files(record.parted, count))
