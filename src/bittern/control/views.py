"""What others are shown: plain tables of names and values, made in one synchronous step each.

Sizes are bytes, rates bytes per second, times seconds since 1970, `eta_s` and `retry_in_s` seconds from now.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import trio

from bittern.control.shapes import Counts, FileView, PeerView, TrackerView
from bittern.engine.opening import Opened
from bittern.engine.peer import Peer
from bittern.engine.session import Session
from bittern.engine.swarm import Swarm
from bittern.engine.torrent import State, Torrent
from bittern.net.http import shown
from bittern.policy.labels import labels_in
from bittern.policy.selection import NAMES, SKIP
from bittern.proto.bitfield import Bitfield

View: TypeAlias = dict[str, Any]
Look: TypeAlias = Callable[["_Seen"], Any]


class _Seen:
    """A torrent at one moment."""

    __slots__ = ("down", "now", "swarm", "torrent", "up")

    def __init__(self, torrent: Torrent, swarm: Swarm | None, now: float) -> None:
        self.torrent = torrent
        self.swarm = swarm
        self.now = now
        peers = swarm.peers if swarm is not None else ()
        self.down = sum(peer.down.rate(now) for peer in peers)
        self.up = sum(peer.up.rate(now) for peer in peers)


def _size(seen: _Seen) -> int:
    return seen.torrent.record.total_bytes - seen.torrent.record.pad_bytes


def _progress(seen: _Seen) -> float:
    """Of what is wanted."""
    torrent = seen.torrent
    total = torrent.wanted_bytes
    return float(torrent.complete) if not total else max(0.0, 1 - torrent.left_bytes / total)


def _eta(seen: _Seen) -> int | None:
    left = seen.torrent.left_bytes
    return round(left / seen.down) if left and seen.down >= 1 else None


def _ratio(seen: _Seen) -> float | None:
    record = seen.torrent.record
    base = record.downloaded_bytes or (record.total_bytes if seen.torrent.complete else 0)
    return round(record.uploaded_bytes / base, 3) if base else None


def _retry(seen: _Seen) -> int | None:
    at = seen.torrent.retry_at
    return max(0, round(at - seen.now)) if at is not None and seen.torrent.state is State.ERROR else None


def _seeds(seen: _Seen) -> int:
    return sum(peer.is_seed for peer in seen.swarm.peers) if seen.swarm is not None else 0


def _counted(index: int) -> Look:
    """What a tracker counts, or else the DHT estimates."""

    def look(seen: _Seen) -> int | None:
        announce = seen.torrent.announce
        told = (announce.seeders, announce.leechers)[index]
        if told >= 0:
            return told
        return seen.torrent.counted[index] if seen.torrent.counted is not None else None

    return look


FIELDS: Final[Mapping[str, Look]] = {
    "info_hash": lambda seen: seen.torrent.info_hash.hex(),
    "name": lambda seen: seen.torrent.record.name,
    "number": lambda seen: seen.torrent.record.number,
    "state": lambda seen: seen.torrent.state.value,
    "error": lambda seen: seen.torrent.error,
    "retry_in_s": _retry,
    "size_bytes": _size,
    "wanted_bytes": lambda seen: seen.torrent.wanted_bytes,
    "left_bytes": lambda seen: seen.torrent.left_bytes,
    "progress": _progress,
    "download_rate": lambda seen: round(seen.down),
    "upload_rate": lambda seen: round(seen.up),
    "eta_s": _eta,
    "downloaded_bytes": lambda seen: seen.torrent.record.downloaded_bytes,
    "uploaded_bytes": lambda seen: seen.torrent.record.uploaded_bytes,
    "ratio": _ratio,
    "peers": lambda seen: len(seen.swarm.peers) if seen.swarm is not None else 0,
    "peers_seeding": _seeds,
    "swarm_seeds": _counted(0),
    "swarm_leechers": _counted(1),
    "label": lambda seen: next(iter(labels_in(seen.torrent.record.label)), ""),
    "labels": lambda seen: list(labels_in(seen.torrent.record.label)),
    "folder": lambda seen: seen.torrent.data_folder,
    "moving_to": lambda seen: seen.torrent.record.moving_to,
    "path": lambda seen: f"{seen.torrent.data_folder}/{seen.torrent.record.root}",
    "private": lambda seen: seen.torrent.record.private,
    "sequential": lambda seen: seen.torrent.record.sequential,
    "priority": lambda seen: seen.torrent.record.priority,
    "rank": lambda seen: seen.torrent.record.rank or float(seen.torrent.record.number),
    "piece_count": lambda seen: seen.torrent.record.piece_count,
    "piece_length": lambda seen: seen.torrent.record.piece_length,
    "added_at": lambda seen: seen.torrent.record.added_wall,
    "completed_at": lambda seen: seen.torrent.record.completed_wall,
    "trackers": lambda seen: [list(tier) for tier in seen.torrent.record.trackers],
}
"""What a torrent can be asked for, in the order in which it is told. Those of a higher `priority` come first in the
queue, and of one priority those of a lower `rank`."""

LISTED: Final = tuple(name for name in FIELDS if name not in {"trackers", "piece_count", "piece_length"})
"""What a list tells of each unless it is asked for something else."""


def torrent_view(
    session: Session, torrent: Torrent, fields: tuple[str, ...] = tuple(FIELDS), *, passkeys: bool = True
) -> View:
    """One torrent; `fields` are keys of `FIELDS`. Without `passkeys` trackers are named by scheme, host and port."""
    seen = _Seen(torrent, session.swarms.live.get(torrent.info_hash), trio.current_time())
    view = {name: FIELDS[name](seen) for name in fields}
    if "trackers" in view and not passkeys:
        view["trackers"] = [list(map(shown, tier)) for tier in view["trackers"]]
    return view


def session_view(session: Session) -> Counts:
    """All of them together."""
    counts = session.counts()
    return {
        "torrents": counts.torrents,
        "downloading": counts.downloading,
        "complete": counts.complete,
        "errors": counts.errors,
        "held": counts.held,
        "offline": counts.offline,
        "peers": counts.peers,
        "download_rate": round(counts.download_rate),
        "upload_rate": round(counts.upload_rate),
    }


def peer_views(session: Session, torrent: Torrent) -> list[PeerView]:
    """Who is connected, the busiest first."""
    swarm = session.swarms.live.get(torrent.info_hash)
    if swarm is None:
        return []
    now = trio.current_time()
    found = [_peer_view(peer, now) for peer in swarm.peers]
    return sorted(found, key=lambda peer: (-peer["download_rate"] - peer["upload_rate"], peer["address"]))


def _peer_view(peer: Peer, now: float) -> PeerView:
    return {
        "address": peer.address.host,
        "port": peer.address.port,
        "client": peer.client,
        "direction": "out" if peer.outbound else "in",
        "progress": peer.bits.count / len(peer.bits) if len(peer.bits) else 1.0,
        "download_rate": round(peer.down.rate(now)),
        "upload_rate": round(peer.up.rate(now)),
        "downloaded_bytes": peer.down.total,
        "uploaded_bytes": peer.up.total,
        "we_want": peer.am_interested,
        "they_want": peer.interested,
        "we_choke": peer.am_choking,
        "they_choke": peer.choking,
        "connected_s": round(now - peer.joined_at),
    }


def tracker_views(torrent: Torrent, *, passkeys: bool = True) -> list[TrackerView]:
    """Its trackers, tier by tier, and when each answered and is asked next; of one not asked yet nothing is known.
    `passkeys` as in `torrent_view`.
    """
    return [
        {
            "tier": one.tier,
            "url": one.url if passkeys else shown(one.url),
            "answered_s_ago": one.answered_s_ago,
            "next_in_s": one.next_in_s,
            "failures": one.failures,
        }
        for one in torrent.announce.trackers(trio.current_time())
    ]


def file_views(opened: Opened, have: Bitfield | None, *, complete: bool) -> list[FileView]:
    """Its files as they lie on disk, with what is verified of each. For a thread: a torrent may have 100 000."""
    layout = opened.layout
    starts = itertools.accumulate(layout.lengths, initial=0)
    return [
        _file_view(index, path, start, length, opened, have, complete)
        for index, (path, start, length) in enumerate(zip(opened.names, starts, layout.lengths, strict=False))
        if path is not None
    ]


def _file_view(
    index: int, path: str, start: int, length: int, opened: Opened, have: Bitfield | None, complete: bool
) -> FileView:
    if complete or not length:
        done = length
    elif have is None:
        done = 0
    else:
        done = sum(_overlaps(opened, index, start, start + length, have))
    return {
        "index": index,
        "path": path,
        "name": path.rpartition("/")[2],
        "length": length,
        "downloaded": done,
        "progress": done / length if length else 1.0,
        "complete": done == length,
        "wanted": opened.levels[index] != SKIP,
        "priority": NAMES[opened.levels[index]],
    }


def _overlaps(opened: Opened, index: int, start: int, end: int, have: Bitfield) -> Iterator[int]:
    layout = opened.layout
    for piece in layout.pieces_of_file(index):
        if have[piece]:
            first = layout.piece_offset(piece)
            yield min(end, first + layout.piece_size(piece)) - max(start, first)
