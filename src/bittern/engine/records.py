"""Makes resume records: of a .torrent, of a magnet link, and of what can be read of a damaged one."""

import contextlib
import os.path
import time
from collections.abc import Mapping

from bittern.disk.paths import default_root
from bittern.disk.resume import ResumeRecord
from bittern.engine.selecting import select_in
from bittern.errors import FileSelectionError, MagnetError, TrackerListError
from bittern.policy.add_terms import AddTerms
from bittern.policy.labels import as_text, labels_in
from bittern.policy.limits import KEYS as LIMIT_KEYS
from bittern.policy.limits import NO_LIMITS, Limits, changed, unpacked
from bittern.policy.rights import as_text as rights_text
from bittern.policy.rights import from_text as rights_from
from bittern.policy.selection import Choice, pack_choice, unpack_choice
from bittern.policy.tiers import checked_tiers
from bittern.proto.magnet import Magnet, parse_magnet
from bittern.proto.metainfo import Metainfo
from bittern.terms import InfoHash


def torrent_record(metainfo: Metainfo, terms: AddTerms, *, number: int) -> ResumeRecord:
    """Of a torrent that nothing was downloaded of yet; what was selected is left to `select_in`."""
    record = _blank(metainfo.info_hash, terms, number)
    describe(record, metainfo)
    record.trackers, record.private = metainfo.trackers, metainfo.private
    return record


def magnet_record(magnet: Magnet, link: str, terms: AddTerms, *, number: int) -> ResumeRecord:
    """All that is known of a torrent before its metadata is here. `FileSelectionError`: more is selected than a record
    may say.
    """
    record = _blank(magnet.info_hash, terms, number)
    record.name = magnet.name or magnet.info_hash.hex()
    record.trackers = magnet.trackers
    # what came as JSON may hold half a character, which no file does
    record.magnet = link.strip().encode("utf-8", "replace").decode()
    record.choice = pack_choice(Choice(only=magnet.select or None).then(terms.selection))
    return record


def _blank(info_hash: InfoHash, terms: AddTerms, number: int) -> ResumeRecord:
    return ResumeRecord(
        info_hash=info_hash,
        name="",
        root="",
        folder=os.path.abspath(terms.downloads),
        incomplete_folder=os.path.abspath(terms.incomplete) if terms.incomplete else "",
        label=as_text(labels_in(terms.label or "")),
        state="metadata",
        number=number,
        total_bytes=0,
        piece_length=0,
        piece_count=0,
        added_wall=time.time(),
        priority=terms.priority or 0,
        limits=changed(NO_LIMITS, terms.limits),
        sequential=bool(terms.sequential),
        rights=rights_text(terms.rights),
        hooks=",".join(terms.hooks or ()),
        watch=terms.watch,
        receipt=terms.receipt,
        tie=terms.tie,
        drop_path=terms.drop_path if terms.tie else "",
    )


def describe(record: ResumeRecord, metainfo: Metainfo) -> None:
    """What a record of which only the hash was known says from now on."""
    record.name, record.root = metainfo.name, default_root(metainfo)
    record.total_bytes = metainfo.total_bytes
    record.pad_bytes = metainfo.total_bytes - metainfo.listed_bytes
    record.piece_length, record.piece_count = metainfo.piece_length, metainfo.piece_count
    record.lone = not metainfo.multi_file
    record.state = "downloading"


def take_terms(record: ResumeRecord, terms: AddTerms) -> None:
    """A .torrent of it was added, which counts for more than the link: its data goes where that one's goes, and what
    else is said of it holds. Of what is not said then, what was said of the link, or since, holds on.
    """
    if terms.folder_said:
        record.folder = os.path.abspath(terms.downloads)
        record.incomplete_folder = os.path.abspath(terms.incomplete) if terms.incomplete else ""
    if terms.label is not None:
        record.label = as_text(labels_in(terms.label))
    if terms.priority is not None:
        record.priority = terms.priority
    record.limits = changed(record.limits, terms.limits)
    record.rights = rights_text(terms.rights.over(rights_from(record.rights)))
    if terms.hooks is not None:
        record.hooks = ",".join(terms.hooks)
    record.watch = terms.watch or record.watch
    if terms.sequential is not None:
        record.sequential = terms.sequential
    try:
        record.choice = pack_choice(unpack_choice(record.choice).then(terms.selection))
    except FileSelectionError:
        # too much for one wish: the later word
        record.choice = pack_choice(terms.selection)
    record.tie = False


def rebuilt_record(
    metainfo: Metainfo, salvage: Mapping[str, object], *, number: int, downloads: str
) -> ResumeRecord:
    """What could be read of a damaged record; what it said of the data is not believed."""
    record = torrent_record(metainfo, AddTerms(downloads), number=number)
    record.limits = _salvaged_limits(salvage)
    for key, value in salvage.items():
        if key in LIMIT_KEYS:
            continue
        if isinstance(value, type(getattr(record, key))) and (
            not isinstance(value, int | float) or value >= 0 or key in {"priority", "rank"}
        ):
            setattr(record, key, value)
    record.choice = ""
    _take_trackers(record, salvage)
    select_in(record, metainfo)
    return record


def _take_trackers(record: ResumeRecord, salvage: Mapping[str, object]) -> None:
    """Those that it had, where they can be read; of a private torrent only if somebody had set them (BEP 27)."""
    record.retiered = False
    retiered = salvage.get("retiered") is True
    if "trackers" in salvage and (retiered or not record.private):
        with contextlib.suppress(TrackerListError):
            record.trackers, record.retiered = checked_tiers(salvage["trackers"]), retiered


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
    record = magnet_record(magnet, str(link), AddTerms(downloads), number=0)
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
    _take_trackers(record, salvage)
    return record


def _salvaged_limits(salvage: Mapping[str, object]) -> Limits:
    try:
        return unpacked(salvage)
    except ValueError:
        return NO_LIMITS
