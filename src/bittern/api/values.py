"""What a torrent can be asked for, and the values in which it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from bittern.control.views import FIELDS, torrent_view
from bittern.disk.resume import ResumeRecord
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.errors import UnknownField

STATS: Final = ("name", "speed", "downloaded", "bytes_size")
"""What `Torrent.stats` tells unless it is asked for something else."""

_RECORD: Final = frozenset(field.name for field in fields(ResumeRecord)) - {"info_hash", "have"}

_OWN: Final = {
    "speed": ("download_rate", "upload_rate"),
    "downloaded": ("size_bytes", "left_bytes"),
    "bytes_size": ("size_bytes",),
    "bitfield": (),
}
"""Fields that are put together from others."""


class Speed(NamedTuple):
    """Bytes per second."""

    download: int
    upload: int


@dataclass(frozen=True, slots=True)
class File:
    """One file of a torrent; `downloaded` bytes of it are verified, `progress` is their share."""

    index: int
    path: Path
    """Where it lies, or will."""
    name: str
    length: int
    downloaded: int
    progress: float
    complete: bool


def values_of(session: Session, torrent: Torrent, names: Sequence[str]) -> list[Any]:
    """One for each name; `UnknownField`."""
    for name in names:
        if name not in FIELDS and name not in _OWN and name not in _RECORD:
            raise UnknownField(f"a torrent has no field {name!r}")
    wanted = {one for name in names for one in _OWN.get(name, (name,)) if one in FIELDS}
    view = torrent_view(session, torrent, tuple(wanted))
    return [_value(name, torrent, view) for name in names]


def _value(name: str, live: Torrent, view: dict[str, Any]) -> Any:
    match name:
        case "speed":
            return Speed(view["download_rate"], view["upload_rate"])
        case "bytes_size":
            return view["size_bytes"]
        case "downloaded":
            # of a magnet link nothing is known, not even how much there is
            return max(0, view["size_bytes"] - view["left_bytes"])
        case "bitfield":
            return live.claimed.to_bytes()
    return view[name] if name in view else getattr(live.record, name)
