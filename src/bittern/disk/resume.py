"""Fast-resume: what bittern remembers of one torrent, as one TOML file.

A record is written whole and ends in a checksum over every byte before it, so a cut or damaged one is noticed
instead of believed. All keys stand at the top level, one a line, so that a person, or a salvage of a damaged
record, can read it. Per-file stamps and the bitfield are one packed string each: a table per file costs 10 ms
a thousand.

A newer format must be refused and never overwritten; an older one goes through `_UPGRADES`, a step per
format. The keys `format` and `written_by` keep their meaning in all formats.
"""

import base64
import binascii
import functools
import hashlib
import struct
import sys
import tomllib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bittern
from bittern.disk.recordlines import plain_table
from bittern.disk.stamps import FileStamp
from bittern.disk.toml import dump_lines, dump_toml, remembered_lines
from bittern.errors import BitternError, StateError
from bittern.policy.limits import KEYS as LIMIT_KEYS
from bittern.policy.limits import NO_LIMITS, Limits, packed, unpacked
from bittern.terms import InfoHash

FORMAT: Final = 3
SELECTION_FORMAT: Final = 2
"""Of torrents whose files have the names that follow from the .torrent."""

PLAIN_FORMAT: Final = 1
"""Of torrents all of whose files are wanted and at their places: these an older bittern may read, which knows of no
others.
"""

_CHECKSUM_KEY: Final = b'\nchecksum = "'
_STAMP: Final = struct.Struct("<qq")
_MISSING: Final = FileStamp(-1, -1)
_ESCAPED: Final = "base64:"
"""Marks a text that TOML cannot hold (file names need not be UTF-8), or that starts with this mark itself."""

STATES: Final = ("metadata", "downloading", "complete")


class RecordCorrupt(BitternError):
    """A record that cannot be believed: its torrent costs one recheck."""


@dataclass(slots=True, kw_only=True)
class ResumeRecord:
    """One torrent; see the fields. `_wall` are Unix seconds."""

    info_hash: InfoHash
    name: str
    root: str
    """The topmost name of its data below the folder."""
    folder: str
    incomplete_folder: str
    label: str
    """Its labels, commas between (`policy.labels`)."""
    state: str
    """One of `STATES`."""
    number: int
    total_bytes: int
    piece_length: int
    piece_count: int
    have: bytes = b""
    """Packed bitfield of pieces verified and flushed; empty for none, and for all when `state` is
    complete. A complete torrent that has not all pieces (others are not wanted) has it too.
    """
    stamps: tuple[FileStamp | None, ...] = ()
    clean: bool = True
    """No write was outstanding when this was written: with matching stamps nothing needs to be hashed."""
    shared: bool = False
    """The data is another torrent's and is never written."""
    uploaded_bytes: int = 0
    downloaded_bytes: int = 0
    added_wall: float
    completed_wall: float | None = None
    completed_event_id: str = ""
    completed_reason: str = ""
    completed_spooled: bool = False
    moving_to: str = ""
    drop_path: str = ""
    tie: bool = False
    trackers: tuple[tuple[str, ...], ...] = ()
    private: bool = False
    checked: bool = False
    """The first check was done."""
    pad_bytes: int = 0
    """How many of `total_bytes` lie in pad files, which are on no disk (BEP 47)."""
    lone: bool = False
    """Its data is one file, named `root`, and no folder. (False in records of older formats: it may be.)"""
    magnet: str = ""
    """The link that it came by, in the state metadata: all that is known of it. Later only if it selects files."""
    stopped: str = ""
    """Why it does not run until somebody lets it, or "" when it may."""
    seeded_s: float = 0.0
    """Seconds of seeding, without those since `seeding_since`."""
    seeding_since: float = 0.0
    """On the run clock; 0 while it does not seed."""
    active_at: float = 0.0
    """On the run clock: when something of it was uploaded last."""
    seeding_done_id: str = ""
    """The event of a seed rule that was met, and perhaps told of."""
    kept: bool = False
    """Seed rules leave it alone: somebody let it go on after one had stopped it."""
    leaving: bool = False
    """It is being removed with its data."""
    priority: int = 0
    """In the queue; the higher the sooner, and below 0 later than others."""
    forced: bool = False
    """No limit of the queue holds it back."""
    started: bool = False
    """It was told that it began to download."""
    started_event_id: str = ""
    """Until hooks have that durably."""
    watch: str = ""
    """The watched folder that it was dropped into; "" when it came another way."""
    receipt: str = ""
    """The dropped file beside which its state is told, or ""."""
    hooks: str = ""
    """Names of hooks that shall be told of it, commas between."""
    limits: Limits = NO_LIMITS
    """Its own."""
    rank: float = 0.0
    """Its place among those of its priority in the queue; 0: its number."""
    added_event_id: str = ""
    """Until hooks have it durably, or nobody wants it; so the next one."""
    downloaded_event_id: str = ""
    downloaded_told: bool = False
    """They have: it had an id once."""
    made: bytes = b""
    """Packed bits, one a file: those that were not there before we came."""
    selection: str = ""
    """The levels of its files (`policy.selection`), as runs; "" when all are wanted alike."""
    wanted: bytes = b""
    """Packed bits, one a piece: those that follow from the selection; b"" for all."""
    parted: bytes = b""
    """Packed bits, one a file: skipped ones that are not at their places, and whose bytes lie apart (`disk.parts`)."""
    choice: str = ""
    """What is to be selected of a torrent whose files are not known yet."""
    sequential: bool = False
    """Its pieces are fetched in their order."""
    renames: str = ""
    """Names that somebody gave to its files and folders (`disk.renames`)."""
    renaming: str = ""
    """One of them may not be done on disk yet."""
    downloading_s: float = 0.0
    """Seconds of downloading, without those of the stretch under way."""
    started_wall: float = 0.0
    """When somebody let it run again; 0: it was never stopped."""
    activity_wall: float = 0.0
    """When something of it went over the wire, as of the last change of its state."""
    corrupt_bytes: int = 0
    """Of pieces that came and did not match their hashes."""
    retiered: bool = False
    """Somebody set its trackers: no drop of it adds any."""
    rights: str = ""
    """Of the files and folders that are made for it (`policy.rights`); "" as all have them."""
    growth: str = ""
    """More was wanted after it had been complete: "wanted", or "got" when some of that came. "" when not."""
    ailing: bool = False
    """It was told that it failed or stalled, and not yet that it recovered."""


def share_values(record: ResumeRecord) -> None:
    """What is the same in thousands of records is held once."""
    for key in (
        "folder",
        "incomplete_folder",
        "label",
        "state",
        "completed_reason",
        "watch",
        "hooks",
        "rights",
    ):
        setattr(record, key, sys.intern(getattr(record, key)))
    if record.root == record.name:
        record.root = record.name
    record.trackers = _the_one(record.trackers)


@functools.lru_cache(maxsize=1024)
def _the_one(tiers: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    return tiers


def dump_record(record: ResumeRecord) -> bytes:
    """The record as a TOML file, in the newest format."""
    table: dict[str, object] = {
        "format": _format_of(record),
        "written_by": f"bittern {bittern.__version__}",
    }
    for key, kind in _PLAIN.items():
        value = getattr(record, key)
        if value or key in _REQUIRED:
            table[key] = _pack_text(value) if kind is str else value
    table |= packed(record.limits)
    table["info_hash"] = record.info_hash.hex()
    if record.completed_wall is not None:
        table["completed_wall"] = record.completed_wall
    for key in _PACKED:
        if blob := getattr(record, key):
            table[key] = base64.b64encode(blob).decode()
    if record.stamps:
        table["stamps"] = pack_stamps(record.stamps)
    body = dump_lines(table, _COMMON)
    if record.trackers or record.retiered:
        # none at all is said too where somebody wanted none: else a damaged record cannot be told from such a one
        body += _dump_trackers(record.trackers)
    return b'%schecksum = "%s"\n' % (body, _checksum(body))


def _dump_trackers(tiers: tuple[tuple[str, ...], ...]) -> bytes:
    few = sum(map(len, tiers)) <= REMEMBERED_TRACKERS
    return remembered_lines("trackers", tiers).encode() if few else dump_toml({"trackers": tiers})


def _format_of(record: ResumeRecord) -> int:
    """The oldest that says it all."""
    if record.renames or record.renaming:
        return FORMAT
    return SELECTION_FORMAT if record.selection or record.choice or record.parted else PLAIN_FORMAT


def load_record(blob: bytes) -> ResumeRecord:
    """Reads a record of this or an older format.

    `RecordCorrupt` when it cannot be believed, `StateError` when a newer bittern wrote it.
    """
    body, mark, rest = blob.rpartition(_CHECKSUM_KEY)
    body += b"\n"
    sound = bool(mark) and rest == _checksum(body) + b'"\n'
    try:
        text = blob.decode()
        table: dict[str, Any] = plain_table(text, RECORD_KEYS) or tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # no UTF-8, no TOML, or an integer of thousands of digits
        raise RecordCorrupt(f"is not readable TOML ({error})".replace("\n", " ")) from None
    found = table.get("format")
    if type(found) is not int or found < 0:
        raise RecordCorrupt("carries no format number")
    if found > FORMAT:
        # Also with a wrong checksum: the newer format may have another one, and its records must not be
        # overwritten.
        raise StateError(
            f"resume format {found} is newer than this bittern's ({FORMAT}): "
            f"install the version that wrote it ({table.get('written_by', 'unknown')}) or a later one"
        )
    if found and not sound:
        raise RecordCorrupt("is truncated or damaged (its checksum does not fit)")
    try:
        for step in range(found, FORMAT):
            table = _UPGRADES[step](table)
        return _from_table(table)
    except _UnfitError as error:
        raise RecordCorrupt(f"is damaged: {error}") from None


def pack_stamps(stamps: tuple[FileStamp | None, ...]) -> str:
    """Stamps as one string: base64 over deflated pairs of 64-bit numbers, -1 for a missing file."""
    packed = b"".join([_STAMP.pack(*(stamp or _MISSING)) for stamp in stamps])
    if len(packed) > FEW_BYTES:
        return base64.b64encode(zlib.compress(packed, 1)).decode()
    few = zlib.compressobj(1, zlib.DEFLATED, 9, 1)
    return base64.b64encode(few.compress(packed) + few.flush()).decode()


def unpack_stamps(text: str) -> tuple[FileStamp | None, ...]:
    """The reverse; `ValueError` when it is no such string."""
    try:
        packed = zlib.decompress(_from_base64(text)) if text else b""
        return tuple(
            [None if size < 0 else FileStamp(size, mtime) for size, mtime in _STAMP.iter_unpack(packed)]
        )
    except (zlib.error, struct.error) as error:
        raise ValueError(str(error)) from None


class _UnfitError(Exception):
    """A value of a record is missing or of the wrong kind."""


_PLAIN: Final[Mapping[str, Any]] = {
    "name": str,
    "label": str,
    "state": str,
    "number": int,
    "root": str,
    "folder": str,
    "incomplete_folder": str,
    "moving_to": str,
    "drop_path": str,
    "tie": bool,
    "private": bool,
    "lone": bool,
    "shared": bool,
    "total_bytes": int,
    "pad_bytes": int,
    "piece_length": int,
    "piece_count": int,
    "uploaded_bytes": int,
    "downloaded_bytes": int,
    "added_wall": float,
    "completed_event_id": str,
    "completed_reason": str,
    "completed_spooled": bool,
    "added_event_id": str,
    "downloaded_event_id": str,
    "downloaded_told": bool,
    "checked": bool,
    "clean": bool,
    "magnet": str,
    "stopped": str,
    "seeded_s": float,
    "seeding_since": float,
    "active_at": float,
    "seeding_done_id": str,
    "kept": bool,
    "leaving": bool,
    "priority": int,
    "forced": bool,
    "started": bool,
    "started_event_id": str,
    "rank": float,
    "watch": str,
    "receipt": str,
    "hooks": str,
    "selection": str,
    "choice": str,
    "sequential": bool,
    "retiered": bool,
    "downloading_s": float,
    "started_wall": float,
    "activity_wall": float,
    "corrupt_bytes": int,
    "renames": str,
    "renaming": str,
    "growth": str,
    "ailing": bool,
    "rights": str,
}

FEW_BYTES: Final = 512
"""Of stamps: they are deflated in so small a window, for to clear a large one takes 35 µs, half of packing a record."""

_COMMON: Final = frozenset(
    {
        "format",
        "written_by",
        "label",
        "state",
        "folder",
        "incomplete_folder",
        "piece_length",
        "completed_reason",
        "watch",
        "hooks",
        "rights",
    }
    | {key for key, kind in _PLAIN.items() if kind is bool}
)
"""Of these there are few values among thousands of torrents."""

REMEMBERED_TRACKERS: Final = 16
"""How lists of trackers read is remembered of those that are not longer: a stranger's may be of a hundred."""

_PACKED: Final = ("have", "made", "wanted", "parted")

_REQUIRED: Final = frozenset({"root", "folder", "state", "piece_length", "piece_count", "added_wall"})
"""Of the others, what is empty, zero or false is left out: reading is a matter of characters."""


_DEFAULTS: Final = {key: kind() for key, kind in _PLAIN.items()}

RECORD_KEYS: Final = frozenset(
    {
        *_PLAIN,
        *_PACKED,
        *LIMIT_KEYS,
        "format",
        "written_by",
        "info_hash",
        "completed_wall",
        "trackers",
        "stamps",
    }
    | {"checksum"}
)


def _from_table(table: Mapping[str, Any]) -> ResumeRecord:
    fields: dict[str, Any] = _DEFAULTS.copy()
    if lacking := _REQUIRED - table.keys():
        raise _UnfitError(f"`{min(lacking)}` is missing")
    # of sixty keys a record has twenty
    for key, value in table.items():
        kind = _PLAIN.get(key)
        if kind is None:
            continue
        if type(value) is not kind:
            if kind is not float or type(value) is not int:
                raise _UnfitError(f"`{key}` is no {kind.__name__}")
            value = float(value)
        elif kind is str and value.startswith(_ESCAPED):
            value = _unpack_text(key, value)
        elif kind is int and value < 0 and key != "priority":
            raise _UnfitError(f"`{key}` is negative")
        fields[key] = value
    if fields["state"] not in STATES:
        raise _UnfitError("`state` is unknown")
    try:
        fields["limits"] = unpacked(table)
    except ValueError as error:
        raise _UnfitError(str(error)) from None
    try:
        fields["info_hash"] = InfoHash(bytes.fromhex(table["info_hash"]))
        for key in _PACKED:
            fields[key] = _from_base64(table[key]) if key in table else b""
        fields["stamps"] = unpack_stamps(table.get("stamps", ""))
        fields["trackers"] = tuple(
            [tuple([_text(url) for url in tier]) for tier in table.get("trackers", ())]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _UnfitError(f"a packed value does not fit ({error})") from None
    if len(fields["info_hash"]) != 20:
        raise _UnfitError("`info_hash` is not 20 bytes")
    for key in ("have", "wanted"):
        if len(fields[key]) not in (0, (fields["piece_count"] + 7) // 8):
            raise _UnfitError(f"`{key}` does not fit the piece count")
    completed = table.get("completed_wall")
    if completed is not None and type(completed) not in (int, float):
        raise _UnfitError("`completed_wall` is no number")
    return ResumeRecord(completed_wall=None if completed is None else float(completed), **fields)


def _from_base64(text: str) -> bytes:
    """`ValueError`, `TypeError`. As b64decode validates, without its regular expression."""
    return binascii.a2b_base64(text, strict_mode=True)


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError("a tracker is no text")
    return value


def _pack_text(text: str) -> str:
    if not text.startswith(_ESCAPED):
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _ESCAPED + base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def _unpack_text(key: str, text: str) -> str:
    try:
        return base64.b64decode(text[len(_ESCAPED) :], validate=True).decode("utf-8", "surrogateescape")
    except ValueError:
        raise _UnfitError(f"`{key}` is no base64") from None


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode()


def _from_format_0(table: dict[str, Any]) -> dict[str, Any]:
    """Format 0 had no checksum, no stamps and `complete` instead of a state; what it claims is checked
    once again.
    """
    state = "complete" if table.get("complete") is True else "downloading"
    return {"state": state, "added_wall": 0.0, **table}


def _from_format_1(table: dict[str, Any]) -> dict[str, Any]:
    """Format 1 knows of no selection, and is still written where there is none."""
    return table


def _from_format_2(table: dict[str, Any]) -> dict[str, Any]:
    """The same of other names."""
    return table


_UPGRADES: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    0: _from_format_0,
    1: _from_format_1,
    2: _from_format_2,
}
"""Format n -> n + 1. A record of format 0 is only ever read, so no checksum guards it."""
