"""Torrents, peers and trackers as Transmission's RPC tells of them (its docs/rpc-spec.md, versions 3 to 4.1).

Names are the classic ones of up to 4.0; the snake_case of 4.1 is made of them by `snake`.
"""

import base64
import math
import mimetypes
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote, urlsplit

import trio

from bittern.control.shapes import PeerView
from bittern.control.transmission_limits import TOLD
from bittern.control.transmission_swarm import availability, desired_available, peers_from
from bittern.control.views import file_views, peer_views, tracker_views
from bittern.engine import times
from bittern.engine.opening import Opened, Told
from bittern.engine.session import Session
from bittern.engine.torrent import State, Torrent
from bittern.policy.labels import labels_in
from bittern.policy.limits import Limits
from bittern.proto.bitfield import Bitfield

STOPPED, CHECK_WAIT, CHECK, DOWNLOAD_WAIT, DOWNLOAD, SEED_WAIT, SEED = range(7)
ERROR_NONE, ERROR_TRACKER_WARNING, ERROR_TRACKER, ERROR_LOCAL = range(4)
ETA_UNKNOWN: Final = -2
ETA_NOT_AVAILABLE: Final = -1
RATIO_NOT_AVAILABLE: Final = -1
RATIO_INFINITE: Final = -2
UNKNOWN_COUNT: Final = -1
ANNOUNCED: Final = frozenset({State.METADATA, State.DOWNLOADING, State.SEEDING})
ERROR_CHARS_AT_MOST: Final = 500
"""What a bug says of itself may be long."""


class Contents(NamedTuple):
    """What the stored .torrent has to be opened for."""

    files: list[dict[str, Any]]
    told: Told
    mime_type: str


UNKNOWN_TYPE: Final = "application/octet-stream"
NO_CONTENTS: Final = Contents([], Told("", "", 0, ()), UNKNOWN_TYPE)


class Seen:
    """A torrent at one moment. `contents` only where they are asked for, and known; `url` is what is told of one."""

    def __init__(
        self, session: Session, torrent: Torrent, contents: Contents, url: Callable[[str], str]
    ) -> None:
        self.session = session
        self.torrent = torrent
        self.record = torrent.record
        self.files = contents.files
        self.told = contents.told
        self.url = url
        self.mime_type = contents.mime_type
        self.now = trio.current_time()
        swarm = session.swarms.live.get(torrent.info_hash)
        self.swarm = swarm
        self.peers = tuple(swarm.peers) if swarm is not None else ()
        self.down = round(sum(peer.down.rate(self.now) for peer in self.peers))
        self.up = round(sum(peer.up.rate(self.now) for peer in self.peers))

    @property
    def total(self) -> int:
        return self.record.total_bytes - self.record.pad_bytes

    @property
    def done(self) -> float:
        """Of what is wanted."""
        if self.record.state == "metadata":
            return 0.0
        wanted = self.torrent.wanted_bytes
        return max(0.0, 1 - self.torrent.left_bytes / wanted) if wanted else 1.0

    @property
    def have_bytes(self) -> int:
        """Of all its data."""
        return max(0, self.torrent.wanted_bytes - self.torrent.left_bytes)


WANTED: Final = " wanted"
PRIORITY: Final = " priority"
"""Of a file in `Seen.files`: what is told of it under `fileStats`."""

RPC_PRIORITIES: Final = {"low": -1, "normal": 0, "high": 1}

Field: TypeAlias = Callable[[Seen], Any]


@lru_cache(maxsize=4096)
def snake(name: str) -> str:
    """`hashString`, `peer-limit` → `hash_string`, `peer_limit`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).replace("-", "_").lower()


def snaked(value: Any) -> Any:
    """The same for all keys in it."""
    if isinstance(value, dict):
        return {snake(key): snaked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [snaked(inner) for inner in value]
    return value


def _status(seen: Seen) -> int:
    torrent = seen.torrent
    match torrent.state:
        case State.CHECKING:
            return CHECK
        case State.QUEUED if torrent.ready:
            return SEED_WAIT if torrent.complete else DOWNLOAD_WAIT
        case State.QUEUED:
            return CHECK_WAIT
        case State.DOWNLOADING | State.MOVING | State.METADATA:
            return DOWNLOAD
        case State.SEEDING:
            return SEED
        case _:
            return STOPPED


def _ratio(seen: Seen) -> float:
    base = seen.record.downloaded_bytes or (seen.total if seen.torrent.complete else 0)
    if not base:
        return RATIO_INFINITE if seen.record.uploaded_bytes else RATIO_NOT_AVAILABLE
    return seen.record.uploaded_bytes / base


def _eta(seen: Seen) -> int:
    if not seen.torrent.left_bytes:
        return ETA_NOT_AVAILABLE
    return round(seen.torrent.left_bytes / seen.down) if seen.down else ETA_UNKNOWN


def _eta_idle(seen: Seen) -> int:
    """How long until an idle limit ends its seeding, if nobody asks for anything."""
    outlook = seen.session.seeding.outlook(seen.torrent)
    if outlook is None or outlook.reached.idle_s is None or math.isinf(outlook.in_s):
        return ETA_NOT_AVAILABLE
    return round(outlook.in_s)


def _pieces(seen: Seen) -> str:
    return base64.b64encode(seen.torrent.pieces.to_bytes()).decode()


def contents_of(opened: Opened, have: Bitfield | None, complete: bool) -> Contents:
    """For a thread."""
    layout = opened.layout
    files = [
        {
            "name": file["path"],
            "length": file["length"],
            "bytesCompleted": file["downloaded"],
            "beginPiece": (pieces := layout.pieces_of_file(file["index"])).start,
            "endPiece": pieces.stop,
            WANTED: file["wanted"],
            PRIORITY: RPC_PRIORITIES.get(file["priority"], 0),
        }
        for file in file_views(opened, have, complete=complete)
    ]
    return Contents(files, opened.told, _mime_type(files))


def _mime_type(files: list[dict[str, Any]]) -> str:
    """That of which there are the most bytes."""
    sizes: Counter[str] = Counter()
    for file in files:
        sizes[_type_of(file["name"].rpartition("/")[2].rpartition(".")[2][:16])] += file["length"]
    return sizes.most_common(1)[0][0] if sizes else UNKNOWN_TYPE


@lru_cache(maxsize=1024)
def _type_of(ending: str) -> str:
    return mimetypes.guess_type(f"x.{ending}")[0] or UNKNOWN_TYPE


def _files(seen: Seen) -> list[dict[str, Any]]:
    return [{key: file[key] for key in file if key not in {WANTED, PRIORITY}} for file in seen.files]


def _file_stats(seen: Seen) -> list[dict[str, Any]]:
    return [
        {"bytesCompleted": file["bytesCompleted"], "wanted": file[WANTED], "priority": file[PRIORITY]}
        for file in seen.files
    ]


def _peers(seen: Seen) -> list[dict[str, Any]]:
    return [
        {
            "address": peer["address"],
            "port": peer["port"],
            "clientName": peer["client"],
            "clientIsChoked": peer["they_choke"],
            "clientIsInterested": peer["we_want"],
            "peerIsChoked": peer["we_choke"],
            "peerIsInterested": peer["they_want"],
            "flagStr": _flags(peer),
            "isDownloadingFrom": bool(peer["download_rate"]),
            "isUploadingTo": bool(peer["upload_rate"]),
            "isEncrypted": False,
            "isIncoming": peer["direction"] == "in",
            "isUTP": False,
            "progress": peer["progress"],
            "rateToClient": peer["download_rate"],
            "rateToPeer": peer["upload_rate"],
        }
        for peer in peer_views(seen.session, seen.torrent)
    ]


def _flags(peer: PeerView) -> str:
    flags = ""
    if peer["we_want"]:
        flags += "d" if peer["they_choke"] else "D"
    elif not peer["they_choke"]:
        flags += "K"
    if peer["they_want"]:
        flags += "u" if peer["we_choke"] else "U"
    elif not peer["we_choke"]:
        flags += "?"
    return flags + ("I" if peer["direction"] == "in" else "")


def _trackers(seen: Seen) -> list[dict[str, Any]]:
    numbers = _tracker_ids(seen)
    return [
        {
            "id": numbers.get(one["url"], -1),
            "announce": seen.url(one["url"]),
            "scrape": "",
            "tier": one["tier"],
            "sitename": _site(one["url"]),
        }
        for one in tracker_views(seen.torrent)
    ]


def _tracker_ids(seen: Seen) -> dict[str, int]:
    """The same until its trackers are changed, whichever of them answers first."""
    urls = (url for tier in seen.record.trackers for url in tier)
    return {url: number for number, url in enumerate(urls)}


def _tracker_stats(seen: Seen) -> list[dict[str, Any]]:
    wall, announce = time.time(), seen.torrent.announce
    stats, numbers = [], _tracker_ids(seen)
    trouble = seen.session.announcer.trouble(seen.torrent.info_hash)
    for one in tracker_views(seen.torrent):
        answered, next_in = one["answered_s_ago"], one["next_in_s"]
        last = round(wall - answered) if answered is not None else 0
        succeeded = answered is not None and not one["failures"]
        # an answer with counts is worth a scrape; that of one tracker is none of another
        counted = answered is not None and announce.seeders >= 0
        stats.append(
            {
                "id": numbers.get(one["url"], -1),
                "tier": one["tier"],
                "announce": seen.url(one["url"]),
                "scrape": "",
                "host": _host(seen.url(one["url"])),
                "sitename": _site(one["url"]),
                "announceState": 1 if next_in is not None else 0,
                "scrapeState": 0,
                "hasAnnounced": answered is not None or one["failures"] > 0,
                "hasScraped": counted,
                "isBackup": answered is None and not one["failures"],
                "lastAnnouncePeerCount": announce.named_by(one["url"]),
                "lastAnnounceResult": "Success"
                if succeeded
                else trouble.get(one["url"], "Could not connect to tracker") * bool(one["failures"]),
                "lastAnnounceStartTime": last,
                "lastAnnounceSucceeded": succeeded,
                "lastAnnounceTime": last,
                "lastAnnounceTimedOut": False,
                "lastScrapeResult": "",
                "lastScrapeStartTime": last if counted else 0,
                "lastScrapeSucceeded": counted,
                "lastScrapeTime": last if counted else 0,
                "lastScrapeTimedOut": False,
                "nextAnnounceTime": round(wall + next_in) if next_in is not None else 0,
                "nextScrapeTime": 0,
                "seederCount": announce.seeders if counted else UNKNOWN_COUNT,
                "leecherCount": announce.leechers if counted else UNKNOWN_COUNT,
                "downloadCount": UNKNOWN_COUNT,
            }
        )
    return stats


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc


def _site(url: str) -> str:
    name = urlsplit(url).hostname or ""
    words = name.split(".")
    return words[-2] if len(words) > 1 and not words[-1].isdigit() else name


def _tracker_list(seen: Seen) -> str:
    return "\n\n".join("\n".join(map(seen.url, tier)) for tier in seen.record.trackers)


def _magnet(seen: Seen) -> str:
    trackers = "".join(
        f"&tr={quote(seen.url(url), safe='')}" for tier in seen.record.trackers for url in tier
    )
    name = quote(seen.record.name.encode("utf-8", "surrogateescape"), safe="")
    return f"magnet:?xt=urn:btih:{seen.torrent.info_hash.hex()}&dn={name}{trackers}"


def _error(seen: Seen) -> tuple[int, str]:
    """Its own trouble, or else what a tracker complains of."""
    if seen.torrent.error:
        return ERROR_LOCAL, seen.torrent.error[:ERROR_CHARS_AT_MOST]
    # clean and short since they came (`proto.announce.words_of`)
    trouble = seen.session.announcer.trouble(seen.torrent.info_hash)
    return (ERROR_TRACKER, next(iter(trouble.values()))) if trouble else (ERROR_NONE, "")


def _unverified(seen: Seen) -> int:
    """Of pieces that are not whole."""
    fetch = None if seen.swarm is None else seen.swarm.fetch
    return 0 if fetch is None else fetch.unverified_bytes


def _may_announce(seen: Seen) -> int:
    """When a tracker may be asked out of turn; -1 where that comes to nothing."""
    at = seen.torrent.announce.may_hasten_at() if seen.torrent.state in ANNOUNCED else None
    return ETA_NOT_AVAILABLE if at is None else round(time.time() + at - seen.now)


def _torrent_file(seen: Seen) -> str:
    if seen.record.state == "metadata":
        return ""
    return f"{seen.session.settings.state}/torrents/{seen.torrent.info_hash.hex()}.torrent"


def _stalled(seen: Seen) -> bool:
    return seen.torrent.stalled


def _of_limits(tell: Callable[[Limits], Any]) -> Field:
    return lambda seen: tell(seen.record.limits)


FIELDS: Final[Mapping[str, Field]] = {
    "activityDate": lambda seen: round(times.active_wall(seen.torrent)),
    "addedDate": lambda seen: round(seen.record.added_wall),
    "availability": lambda seen: availability(seen.torrent, seen.swarm),
    "comment": lambda seen: seen.told.comment,
    "corruptEver": lambda seen: seen.record.corrupt_bytes,
    "creator": lambda seen: seen.told.creator,
    "dateCreated": lambda seen: seen.told.created_wall,
    "desiredAvailable": lambda seen: desired_available(seen.torrent, seen.peers),
    "doneDate": lambda seen: round(seen.record.completed_wall or 0),
    "downloadDir": lambda seen: seen.torrent.record.folder,
    "downloadedEver": lambda seen: seen.record.downloaded_bytes,
    "editDate": lambda seen: round(seen.session.edits.wall(seen.torrent.info_hash)),
    "error": lambda seen: _error(seen)[0],
    "errorString": lambda seen: _error(seen)[1],
    "eta": _eta,
    "etaIdle": _eta_idle,
    "file-count": lambda seen: len(seen.files),
    "fileStats": _file_stats,
    "files": _files,
    "group": lambda seen: "",
    "hashString": lambda seen: seen.torrent.info_hash.hex(),
    "haveUnchecked": _unverified,
    "haveValid": lambda seen: seen.have_bytes,
    "id": lambda seen: seen.record.number,
    "isFinished": lambda seen: bool(seen.record.stopped and seen.record.seeding_done_id),
    "isPrivate": lambda seen: seen.record.private,
    "isStalled": _stalled,
    "labels": lambda seen: list(labels_in(seen.record.label)),
    "leftUntilDone": lambda seen: seen.torrent.left_bytes,
    "magnetLink": _magnet,
    "manualAnnounceTime": _may_announce,
    "maxConnectedPeers": lambda seen: seen.session.swarms.peers_at_most(seen.torrent),
    "metadataPercentComplete": lambda seen: float(seen.record.state != "metadata"),
    "name": lambda seen: seen.record.name,
    "peer-limit": lambda seen: seen.session.swarms.peers_at_most(seen.torrent),
    "peers": _peers,
    "peersConnected": lambda seen: len(seen.peers),
    "peersFrom": lambda seen: peers_from(seen.swarm, seen.peers),
    "peersGettingFromUs": lambda seen: sum(not peer.am_choking and peer.interested for peer in seen.peers),
    "peersSendingToUs": lambda seen: sum(not peer.choking and peer.am_interested for peer in seen.peers),
    "percentComplete": lambda seen: min(1.0, seen.have_bytes / seen.total) if seen.total else seen.done,
    "percentDone": lambda seen: seen.done,
    "pieceCount": lambda seen: seen.record.piece_count,
    "pieceSize": lambda seen: seen.record.piece_length,
    "pieces": _pieces,
    "primary-mime-type": lambda seen: seen.mime_type,
    "priorities": lambda seen: [file[PRIORITY] for file in seen.files],
    "queuePosition": lambda seen: seen.session.queue.place(seen.torrent),
    "rateDownload": lambda seen: seen.down,
    "rateUpload": lambda seen: seen.up,
    "recheckProgress": lambda seen: seen.session.checker.progress(seen.torrent),
    "secondsDownloading": lambda seen: round(times.downloading_s(seen.torrent)),
    "secondsSeeding": lambda seen: round(seen.session.seeding.seed_time_s(seen.torrent)),
    "sequentialDownload": lambda seen: seen.record.sequential,
    "sizeWhenDone": lambda seen: seen.torrent.wanted_bytes,
    "startDate": lambda seen: round(seen.record.started_wall or seen.record.added_wall),
    "status": _status,
    "torrentFile": _torrent_file,
    "totalSize": lambda seen: seen.total,
    "trackerList": _tracker_list,
    "trackerStats": _tracker_stats,
    "trackers": _trackers,
    "uploadRatio": _ratio,
    "uploadedEver": lambda seen: seen.record.uploaded_bytes,
    "wanted": lambda seen: [int(file[WANTED]) for file in seen.files],
    "webseeds": lambda seen: list(map(seen.url, seen.told.web_seeds)),
    "webseedsSendingToUs": lambda seen: 0,
    **{name: _of_limits(tell) for name, tell in TOLD.items()},
}

BY_SNAKE: Final = {snake(name): name for name in FIELDS}
OF_FILES: Final = frozenset(
    {"files", "fileStats", "file-count", "priorities", "wanted", "primary-mime-type"}
    | {"comment", "creator", "dateCreated", "webseeds"}
)
"""What the .torrent has to be opened for."""
