"""Events of a torrent that stand in its record until hooks have them durably: a crash in between repeats them, with the
same id.
"""

from collections.abc import Iterator

from bittern.engine.events import Added, Arrived, Completed, Started, wall_of
from bittern.engine.torrent import Torrent


def untold(torrent: Torrent) -> Iterator[Added | Started | Arrived | Completed]:
    """Those, in their order."""
    record = torrent.record
    if record.added_event_id:
        yield Added(facts=torrent.facts(), event_id=record.added_event_id, at_wall=record.added_wall)
    if record.started_event_id:
        yield Started(
            facts=torrent.facts(), event_id=record.started_event_id, at_wall=wall_of(record.started_event_id)
        )
    at_wall = record.completed_wall or record.added_wall
    if record.downloaded_event_id:
        yield Arrived(facts=torrent.facts(), event_id=record.downloaded_event_id, at_wall=at_wall)
    if record.completed_event_id and not record.completed_spooled:
        reason = record.completed_reason
        yield Completed(
            facts=torrent.facts(),
            event_id=record.completed_event_id,
            reason="downloaded" if reason == "downloaded" else "already-complete",
            at_wall=at_wall,
        )


def is_told(torrent: Torrent, event_id: str) -> bool:
    """One of them is durable elsewhere now. False: it is none of these, or the record says so already."""
    record = torrent.record
    match event_id:
        case record.added_event_id:
            record.added_event_id = ""
        case record.started_event_id:
            record.started_event_id = ""
        case record.downloaded_event_id:
            # no memory is held for what nobody asks for again
            record.downloaded_event_id, record.downloaded_told = "", True
        case record.completed_event_id if not record.completed_spooled:
            record.completed_spooled = True
        case _:
            return False
    return True
