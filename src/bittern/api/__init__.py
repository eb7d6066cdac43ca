"""The engine in a program of one's own: a session, its torrents, and what happens to them.

    async with bittern.open_session("downloads") as session:
        torrent = await session.download("debian.torrent")
        await torrent.wait_complete()

Made for trio; from asyncio it is reached through anyio's blocking portal. All of it belongs to the one task's loop that
opened the session: other threads come through `trio.from_thread`. Methods that are not `async` decide at once.

Info hashes are told as 40 hexadecimal digits and taken as such or as 20 bytes; sizes are bytes, rates bytes per second,
times seconds since 1970.
"""

from typing import Final

from bittern import __version__
from bittern.api.events import EVENTS_KEPT, Event, Events, EventsLost
from bittern.api.opening import open_session
from bittern.api.options import Options
from bittern.api.session import Session
from bittern.api.torrent import Torrent
from bittern.api.values import STATS, File, Speed
from bittern.errors import (
    BitternError,
    CallError,
    FileSelectionError,
    MagnetError,
    MetainfoError,
    OptionError,
    PortTaken,
    SessionClosed,
    SessionFailed,
    StateError,
    StorageError,
    TorrentNotFound,
    TrackerListError,
    UnknownField,
)
from bittern.proto.handshake import peer_id_prefix

__all__ = [
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
]

PEER_ID_PREFIX: Final[bytes] = peer_id_prefix(__version__)
"""How the peer ids of this version begin (BEP 20)."""
