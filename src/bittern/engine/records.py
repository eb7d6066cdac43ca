"""Makes resume records: of a .torrent, of a magnet link, and of what can be read of a damaged one."""

import os.path
import time
from collections.abc import Mapping

from bittern.disk.paths import default_root
from bittern.disk.resume import ResumeRecord
from bittern.engine.selecting import select_in
from bittern.errors import MagnetError
from bittern.policy.labels import as_text, labels_in
from bittern.policy.limits import KEYS as LIMIT_KEYS
from bittern.policy.limits import NO_LIMITS, Limits, unpacked
from bittern.policy.selection import Choice, pack_choice
from bittern.proto.magnet import Magnet, parse_magnet
from bittern.proto.metainfo import Metainfo
from bittern.terms import InfoHash


def torrent_record(
    metainfo: Metainfo, *, number: int, downloads: str, incomplete: str = "", label: str = ""
) -> ResumeRecord:
    """Of a torrent that nothing was downloaded of yet."""
    record = _blank(
        metainfo.info_hash, number=number, downloads=downloads, incomplete=incomplete, label=label
    )
    describe(record, metainfo)
    record.trackers, record.private = metainfo.trackers, metainfo.private
    return record


def magnet_record(
    magnet: Magnet, link: str, *, number: int, downloads: str, incomplete: str = "", label: str = ""
) -> ResumeRecord:
    """All that is known of a torrent before its metadata is here."""
    record = _blank(magnet.info_hash, number=number, downloads=downloads, incomplete=incomplete, label=label)
    record.name = magnet.name or magnet.info_hash.hex()
    record.trackers = magnet.trackers
    # what came as JSON may hold half a character, which no file does
    record.magnet = link.strip().encode("utf-8", "replace").decode()
    if magnet.select:
        record.choice = pack_choice(Choice(only=magnet.select))
    return record


def _blank(info_hash: InfoHash, *, number: int, downloads: str, incomplete: str, label: str) -> ResumeRecord:
    return ResumeRecord(
        info_hash=info_hash,
        name="",
        root="",
        folder=os.path.abspath(downloads),
        incomplete_folder=os.path.abspath(incomplete) if incomplete else "",
        label=as_text(labels_in(label)),
        state="metadata",
        number=number,
        total_bytes=0,
        piece_length=0,
        piece_count=0,
        added_wall=time.time(),
    )


def describe(record: ResumeRecord, metainfo: Metainfo) -> None:
    """What a record of which only the hash was known says from now on."""
    record.name, record.root = metainfo.name, default_root(metainfo)
    record.total_bytes = metainfo.total_bytes
    record.pad_bytes = metainfo.total_bytes - metainfo.listed_bytes
    record.piece_length, record.piece_count = metainfo.piece_length, metainfo.piece_count
    record.lone = not metainfo.multi_file
    record.state = "downloading"


def take_terms(record: ResumeRecord, *, downloads: str, incomplete: str, label: str) -> None:
    """A .torrent of it was dropped, which counts for more than a link: its data goes where that folder's goes."""
    record.folder = os.path.abspath(downloads)
    record.incomplete_folder = os.path.abspath(incomplete) if incomplete else ""
    record.label = as_text(labels_in(label)) or record.label
    record.tie = False


def rebuilt_record(
    metainfo: Metainfo, salvage: Mapping[str, object], *, number: int, downloads: str
) -> ResumeRecord:
    """What could be read of a damaged record; what it said of the data is not believed."""
    record = torrent_record(metainfo, number=number, downloads=downloads)
    record.limits = _salvaged_limits(salvage)
    for key, value in salvage.items():
        if key in LIMIT_KEYS:
            continue
        if isinstance(value, type(getattr(record, key))) and (
            not isinstance(value, int | float) or value >= 0 or key in {"priority", "rank"}
        ):
            setattr(record, key, value)
    record.choice = ""
    select_in(record, metainfo)
    return record


def rebuilt_magnet(
    info_hash: InfoHash, salvage: Mapping[str, object], *, downloads: str
) -> ResumeRecord | None:
    """The same of one that has no metadata yet: the link is all. None: it is not readable either."""
    link = salvage.get("magnet")
    try:
        magnet = parse_magnet(link if isinstance(link, str) else "")
    except MagnetError:
        return None
    if magnet.info_hash != info_hash:
        return None
    record = magnet_record(magnet, str(link), number=0, downloads=downloads)
    for key in (
        "number",
        "folder",
        "incomplete_folder",
        "label",
        "tie",
        "drop_path",
        "added_wall",
        "stopped",
        "priority",
        "forced",
        "watch",
        "receipt",
        "hooks",
        "rights",
        "choice",
        "sequential",
    ):
        value = salvage.get(key)
        if isinstance(value, type(getattr(record, key))):
            setattr(record, key, value)
    record.limits = _salvaged_limits(salvage)
    return record


def _salvaged_limits(salvage: Mapping[str, object]) -> Limits:
    try:
        return unpacked(salvage)
    except ValueError:
        return NO_LIMITS
