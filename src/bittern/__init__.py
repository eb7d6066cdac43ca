"""bittern: an unattended watch-folder BitTorrent daemon, and its engine as a library (`api`)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bittern.api import *  # noqa: F403 — the names below

_PUBLIC = frozenset(
    {
        "EVENTS_KEPT",
        "PEER_ID_PREFIX",
        "STATS",
        "BitternError",
        "CallError",
        "Event",
        "Events",
        "EventsLost",
        "File",
        "FileSelectionError",
        "MagnetError",
        "MetainfoError",
        "OptionError",
        "Options",
        "PortTaken",
        "Session",
        "SessionClosed",
        "SessionFailed",
        "Speed",
        "StateError",
        "StorageError",
        "Torrent",
        "TorrentNotFound",
        "TrackerListError",
        "UnknownField",
        "open_session",
    }
)
"""What `bittern.api` offers; said here too, so that a part can be imported without the engine."""


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module("bittern.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
