"""What the engine tells, as lines of the log: one per event, with the field names that programs rely on."""

import time
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bittern.daemon.logs import Log
from bittern.engine.events import (
    Added,
    Arrived,
    Checked,
    Completed,
    Crashed,
    CrashedAgain,
    Described,
    DiskLow,
    DiskRecovered,
    Downloaded,
    Event,
    Failed,
    FolderAway,
    FolderBack,
    Held,
    Listening,
    Loaded,
    Moved,
    PeerBanned,
    Recovered,
    Released,
    Removed,
    Renamed,
    Rotten,
    SeedingDone,
    Stalled,
    Started,
    TorrentFacts,
    TrackerTrouble,
    Warned,
)
from bittern.engine.repeats import brief

ReadsAlong: TypeAlias = Callable[[dict[str, Any]], None]
"""Is given a line as one object: `event`, `level`, `at` (wall clock), and its fields."""

PIECES_SHOWN: Final = 20


class Line(NamedTuple):
    """A level of the log, the event's name, and its fields."""

    level: Literal["debug", "info", "warning", "error"]
    event: str
    fields: dict[str, Any]


class Chronicle:
    """Writes events down, and hands what it wrote to whoever reads along."""

    def __init__(self, log: Log, also: ReadsAlong = lambda _: None) -> None:
        self.log = log
        """Best one that is bound already: to bind it for each line takes a quarter of what the line costs."""
        self._also = also

    def warn(self, name: str, **fields: Any) -> None:
        """One line for what is no event of the engine, and that people who only read along have to know too."""
        self.log.warning(name, **fields)
        self._also({"event": name, "level": "warning", "at": time.time(), **fields})

    def write(self, event: Event) -> None:
        """One line for one event."""
        level, name, fields = line(event)
        getattr(self.log, level)(name, **fields)
        if level != "debug":
            error = fields.pop("exc_info", None)
            if error is not None:
                fields["error"] = brief(error)
            self._also({"event": name, "level": level, "at": time.time(), **fields})


def line(event: Event) -> Line:
    """How an event is told."""
    match event:
        case Added(facts=facts):
            return Line("info", "torrent.added", _of(facts, size_bytes=facts.size_bytes, path=facts.path))
        case Described(facts=facts):
            source = "peers" if event.from_peers else "a .torrent"
            told = _of(facts, size_bytes=facts.size_bytes, path=facts.path, source=source)
            return Line("info", "torrent.described", told)
        case Checked(facts=facts):
            return Line(
                "info",
                "torrent.checked",
                _of(facts, complete=event.complete, hashed_bytes=event.hashed_bytes),
            )
        case Arrived(facts=facts):
            return Line("debug", "torrent.arrived", _of(facts, event_id=event.event_id))
        case Downloaded(facts=facts):
            return Line("info", "torrent.downloaded", _of(facts, size_bytes=facts.size_bytes))
        case Completed(facts=facts):
            return Line(
                "info",
                "torrent.completed",
                _of(facts, path=facts.path, reason=event.reason, event_id=event.event_id),
            )
        case Failed(facts=facts):
            return Line(
                "error", "torrent.failed", _of(facts, reason=event.reason, retry_in_s=event.retry_in_s)
            )
        case Recovered(facts=facts):
            return Line("info", "torrent.recovered", _of(facts))
        case Held() | Released() | Rotten() | DiskLow() | DiskRecovered() | FolderAway() | FolderBack():
            return _of_disks(event)
        case Moved(facts=facts):
            return Line("info", "torrent.moved", _of(facts, path=facts.path, source=event.source))
        case Renamed(facts=facts):
            return Line("info", "torrent.renamed", _of(facts, old=event.old, new=event.new))
        case Removed(facts=facts):
            return Line("info", "torrent.removed", _of(facts, reason=event.reason))
        case Started(facts=facts):
            return Line("info", "torrent.started", _of(facts))
        case Stalled(facts=facts):
            return Line("warning", "torrent.stalled", _of(facts, idle_s=event.idle_s, peers=event.peers))
        case SeedingDone(facts=facts):
            told = {"rule": event.rule, "action": event.action, "reason": event.reason}
            return Line("info", "torrent.seeding_done", _of(facts, **told, event_id=event.event_id))
        case _:
            return _line_of_another(event)


def _line_of_another(
    event: Loaded | Listening | TrackerTrouble | PeerBanned | Crashed | CrashedAgain | Warned,
) -> Line:
    """Of what is no step in a torrent's life."""
    match event:
        case Loaded():
            return Line("info", "daemon.loaded", {"torrents": event.torrents, "complete": event.complete})
        case Listening():
            return Line("debug", "daemon.listening", {"port": event.port, "addresses": event.addresses})
        case TrackerTrouble(facts=facts, reason=None):
            return Line("info", "tracker.answers", _of(facts, tracker=event.tracker))
        case TrackerTrouble(facts=facts):
            return Line("warning", "tracker.trouble", _of(facts, tracker=event.tracker, reason=event.reason))
        case PeerBanned(facts=facts, piece=None):
            return Line("warning", "peer.banned", _of(facts, host=event.host, reason="sent wrong metadata"))
        case PeerBanned(facts=facts):
            return Line(
                "warning",
                "peer.banned",
                _of(facts, host=event.host, piece=event.piece, reason="sent bad data"),
            )
        case Crashed():
            return Line(
                "error", "bug", {"where": event.where, "remedy": event.remedy, "exc_info": event.exception}
            )
        case CrashedAgain(more=more):
            return Line(
                "error",
                "bug",
                {
                    "where": more.where,
                    "remedy": more.remedy,
                    "error": more.error,
                    "place": more.place,
                    "more": more.count,
                    "in_s": more.in_s,
                },
            )
        case Warned():
            return Line("warning", event.what, {"detail": event.detail})


def _of_disks(event: Held | Released | Rotten | DiskLow | DiskRecovered | FolderAway | FolderBack) -> Line:
    match event:
        case Held(facts=facts):
            more = {"folder": facts.folder, "missing_bytes": event.missing_bytes}
            return Line("warning", "torrent.held", _of(facts, **more))
        case Released(facts=facts):
            return Line("info", "torrent.released", _of(facts))
        case Rotten(facts=facts):
            return Line(
                "error", "torrent.rotten", _of(facts, path=facts.path, pieces=event.pieces[:PIECES_SHOWN])
            )
        case DiskLow():
            return Line(
                "error",
                "disk.low",
                {
                    "path": event.path,
                    "free_bytes": event.free_bytes,
                    "needed_bytes": event.needed_bytes,
                    "event_id": event.event_id,
                },
            )
        case DiskRecovered():
            return Line("info", "disk.recovered", {"path": event.path, "free_bytes": event.free_bytes})
        case FolderAway():
            return Line(
                "error",
                "folder.away",
                {"path": event.path, "reason": event.reason, "torrents": event.torrents},
            )
        case FolderBack():
            return Line("info", "folder.back", {"path": event.path, "torrents": event.torrents})


def _of(facts: TorrentFacts, **more: Any) -> dict[str, Any]:
    return {"info_hash": facts.info_hash.hex(), "name": facts.name, **more}
