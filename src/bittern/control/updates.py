"""What the page is fed: all torrents once, and then those that changed, every two seconds; and what is told."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

from bittern.control.sse import EventStream, message
from bittern.control.stream import Stream
from bittern.control.turns import Turns
from bittern.control.views import session_view, torrent_view
from bittern.control.volumes import volume_views
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.terms import InfoHash

EVERY_S: Final = 2.0
FRESH_S: Final = 1.0
"""So young a look serves other readers too."""

READERS_AT_MOST: Final = 64
GONE_AT_MOST: Final = 10_000
ROWS_AT_ONCE: Final = 200
"""In one message, and before others get their turn."""

ROW: Final = (
    "info_hash",
    "name",
    "number",
    "state",
    "progress",
    "size_bytes",
    "download_rate",
    "upload_rate",
    "eta_s",
    "ratio",
    "peers",
    "label",
    "labels",
    "error",
    "priority",
    "rank",
)


class Looks:
    """What changed, for all readers: however many there are, the torrents are looked at once a second at most."""

    def __init__(self, session: Session, folders: Callable[[], Sequence[str]] = tuple) -> None:
        """`folders` are those whose room is told of."""
        self._session = session
        self._folders = folders
        self.readers = 0
        self._round = 0
        self._looked_at = -math.inf
        self._looking = trio.Lock()
        self._marks: dict[InfoHash, tuple[object, ...]] = {}
        """How each looked when it was last told of."""
        self._changed: dict[InfoHash, int] = {}
        """In which round it last did."""
        self._gone: dict[InfoHash, int] = {}
        self._forgotten = 0
        """Who has not heard of what went up to this round begins anew."""
        self.session_view: Mapping[str, object] = {}

    async def since(self, heard: int) -> tuple[int, bool, list[Torrent], list[InfoHash]]:
        """The present round; and what is new to who has heard all up to another one, or, where that is so, to who has
        heard nothing: which torrents look otherwise, and which are gone.
        """
        async with self._looking:
            if trio.current_time() - self._looked_at >= FRESH_S:
                await self._look()
        anew = heard <= self._forgotten
        heard = 0 if anew else heard
        torrents = self._session.torrents
        changed = [torrents[one] for one, when in self._changed.items() if when > heard and one in torrents]
        gone = [] if anew else [one for one, when in self._gone.items() if when > heard]
        return self._round, anew, changed, gone

    async def _look(self) -> None:
        now, turns = self._round + 1, Turns()
        for torrent in list(self._session.torrents.values()):
            await turns.next()
            mark = self._mark(torrent)
            # whose connections move, changes
            if mark != self._marks.get(torrent.info_hash) or mark[0]:
                self._marks[torrent.info_hash] = mark
                self._changed[torrent.info_hash] = now
                self._gone.pop(torrent.info_hash, None)
        for one in self._marks.keys() - self._session.torrents.keys():
            del self._marks[one], self._changed[one]
            self._gone[one] = now
        while len(self._gone) > GONE_AT_MOST:
            self._forgotten = self._gone.pop(next(iter(self._gone)))
        volumes = volume_views(self._session, self._folders())
        self.session_view = {**session_view(self._session), "volumes": volumes}
        self._round, self._looked_at = now, trio.current_time()

    def _mark(self, torrent: Torrent) -> tuple[object, ...]:
        swarm = self._session.swarms.live.get(torrent.info_hash)
        have = torrent.have.count if torrent.have is not None else -1
        record = torrent.record
        place = (record.priority, record.rank)
        wanted = torrent.wanted.count if torrent.wanted is not None else -1
        return (
            swarm is not None,
            torrent.state,
            torrent.error,
            have,
            wanted,
            record.name,
            record.uploaded_bytes,
            record.label,
            place,
        )


class Updates(EventStream):
    """One reader's stream."""

    def __init__(self, session: Session, looks: Looks, stream: Stream, *, may_steer: bool) -> None:
        super().__init__()
        self._session = session
        self._looks = looks
        self._stream = stream
        self._may_steer = may_steer

    async def tell(self) -> None:
        self._looks.readers += 1
        try:
            with self._stream.listening() as listener:
                heard = 0
                while True:
                    heard, anew, changed, gone = await self._looks.since(heard)
                    for start in range(0, max(len(changed), 1), ROWS_AT_ONCE):
                        rows = changed[start : start + ROWS_AT_ONCE]
                        await self.say(self._update(rows, gone if not start else [], anew=anew and not start))
                    deadline = trio.current_time() + EVERY_S
                    while (left := deadline - trio.current_time()) > 0:
                        for told in await listener.hear(left):
                            await self.say(message(told, "told"))
        finally:
            self._looks.readers -= 1

    def _update(self, torrents: list[Torrent], gone: list[InfoHash], *, anew: bool) -> bytes:
        session = self._session
        known = [torrent for torrent in torrents if session.torrents.get(torrent.info_hash) is torrent]
        value: dict[str, Any] = {
            "anew": anew,
            "may_steer": self._may_steer,
            "session": self._looks.session_view,
            "torrents": [torrent_view(session, torrent, ROW) for torrent in known],
            "removed": [info_hash.hex() for info_hash in gone],
        }
        return message(value)
