"""What the engine tells, as lines of the log: one per event, with the field names that programs rely on."""

from typing import Final

from bittern.daemon.logs import Log
from bittern.engine.events import (
    Added,
    Checked,
    Completed,
    Crashed,
    Downloaded,
    Event,
    Failed,
    Listening,
    Loaded,
    PeerBanned,
    Recovered,
    Removed,
    Rotten,
    TorrentFacts,
    TrackerTrouble,
    Warned,
)

PIECES_SHOWN: Final = 20


class Chronicle:
    """Writes events down."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(self, event: Event) -> None:
        """One line for one event."""
        log = self._log
        match event:
            case Added(facts=facts):
                log.info("torrent.added", **_of(facts), size_bytes=facts.size_bytes, path=facts.path)
            case Checked(facts=facts):
                log.info(
                    "torrent.checked", **_of(facts), complete=event.complete, hashed_bytes=event.hashed_bytes
                )
            case Downloaded(facts=facts):
                log.info("torrent.downloaded", **_of(facts), size_bytes=facts.size_bytes)
            case Completed(facts=facts):
                log.info(
                    "torrent.completed",
                    **_of(facts),
                    path=facts.path,
                    reason=event.reason,
                    event_id=event.event_id,
                )
            case Failed(facts=facts):
                log.error("torrent.failed", **_of(facts), reason=event.reason, retry_in_s=event.retry_in_s)
            case Recovered(facts=facts):
                log.info("torrent.recovered", **_of(facts))
            case Rotten(facts=facts):
                log.error("torrent.rotten", **_of(facts), path=facts.path, pieces=event.pieces[:PIECES_SHOWN])
            case Removed(facts=facts):
                log.info("torrent.removed", **_of(facts), reason=event.reason)
            case Loaded():
                log.info("daemon.loaded", torrents=event.torrents, complete=event.complete)
            case Listening():
                log.debug("daemon.listening", port=event.port, addresses=event.addresses)
            case TrackerTrouble(facts=facts, reason=None):
                log.info("tracker.answers", **_of(facts), tracker=event.tracker)
            case TrackerTrouble(facts=facts):
                log.warning("tracker.trouble", **_of(facts), tracker=event.tracker, reason=event.reason)
            case PeerBanned(facts=facts):
                log.warning(
                    "peer.banned", **_of(facts), host=event.host, piece=event.piece, reason="sent bad data"
                )
            case Crashed():
                log.error("bug", where=event.where, remedy=event.remedy, exc_info=event.exception)
            case Warned():
                log.warning(event.what, detail=event.detail)


def _of(facts: TorrentFacts) -> dict[str, str]:
    return {"info_hash": facts.info_hash.hex(), "name": facts.name}
