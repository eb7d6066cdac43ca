"""From a record to something that can be read and written: metainfo, layout, paths, storage. Runs in a disk thread."""

from dataclasses import dataclass

from bittern.disk.files import OpenFiles
from bittern.disk.paths import plan_paths
from bittern.disk.places import Places
from bittern.disk.resume import ResumeRecord
from bittern.disk.storage import Storage, stamp_of
from bittern.engine.store import Store
from bittern.errors import MetainfoError, PlaceGone, StorageError
from bittern.proto.layout import Layout
from bittern.proto.metadata import METADATA_PIECE_BYTES
from bittern.proto.metainfo import parse_metainfo
from bittern.terms import InfoHash


@dataclass(frozen=True, slots=True)
class Opened:
    """A torrent's data as it lies on disk. `storage` holds no descriptor until it is used."""

    layout: Layout
    paths: tuple[str | None, ...]
    storage: Storage
    piece_hashes: bytes
    info_span: tuple[int, int]
    """Where the info dictionary lies in the stored .torrent."""

    @property
    def metadata_bytes(self) -> int:
        """Its length."""
        return self.info_span[1] - self.info_span[0]


class Opener:
    """Opens torrents; stateless but for where things are."""

    def __init__(self, store: Store, files: OpenFiles, places: Places) -> None:
        self._store = store
        self._files = files
        self.places = places

    def open(self, record: ResumeRecord, folder: str, root: str) -> Opened:
        """The torrent's data below `folder/root`; `StorageError` when the stored .torrent is gone or damaged."""
        try:
            metainfo = parse_metainfo(self._store.metainfo(record.info_hash))
        except MetainfoError as error:
            raise StorageError(f"the stored .torrent is damaged ({error}); drop it again") from error
        if metainfo.info_hash != record.info_hash:
            raise StorageError("the stored .torrent is that of another torrent; drop the right one again")
        layout = Layout.of(metainfo)
        paths = tuple(plan_paths(metainfo, root))
        storage = Storage(
            self._files, folder, paths, layout, read_only=record.shared, place=self.places.of(folder)
        )
        return Opened(layout, paths, storage, metainfo.piece_hashes, metainfo.info_span)

    def metadata_piece(self, info_hash: InfoHash, info_span: tuple[int, int], piece: int) -> bytes:
        """A piece of the info dictionary (BEP 9) out of the stored .torrent; `StorageError`."""
        start, end = info_span
        at = start + piece * METADATA_PIECE_BYTES
        return self._store.part_of_metainfo(info_hash, at, min(METADATA_PIECE_BYTES, end - at))

    def keep_paths(self, record: ResumeRecord, opened: Opened) -> None:
        """For `is_unchanged`, from now on."""
        if not record.lone:
            self._store.keep_paths(record.info_hash, opened.paths)

    def is_unchanged(self, record: ResumeRecord) -> bool:
        """Do all files of a complete torrent look as the record says? The .torrent is not opened; False when only that
        could tell.
        """
        paths = (record.root,) if record.lone else self._store.paths(record.info_hash)
        if paths is None or len(paths) != len(record.stamps):
            return False
        try:
            self.places.of(record.folder).require_path()
            return all(
                stamp == (None if path is None else stamp_of(f"{record.folder}/{path}"))
                for path, stamp in zip(paths, record.stamps, strict=True)
            )
        except (OSError, PlaceGone):
            return False
