"""What the page is fed: all torrents once, and then those that changed, every two seconds; and what is told."""

from typing import Any, Final

import trio

from bittern.control.sse import EventStream, message
from bittern.control.stream import Stream
from bittern.control.views import session_view, torrent_view
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.terms import InfoHash

EVERY_S: Final = 2.0
LOOKED_AT_ONCE: Final = 500
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
    "error",
)


class Updates(EventStream):
    """One reader's stream."""

    def __init__(self, session: Session, stream: Stream, *, may_steer: bool) -> None:
        super().__init__()
        self._session = session
        self._stream = stream
        self._may_steer = may_steer
        self._marks: dict[InfoHash, tuple[object, ...]] = {}
        """How each looked when it was last told of."""

    async def tell(self) -> None:
        anew = True
        with self._stream.listening() as listener:
            while True:
                changed = await self._changed()
                gone = [info_hash for info_hash in self._marks if info_hash not in self._session.torrents]
                for info_hash in gone:
                    del self._marks[info_hash]
                for start in range(0, max(len(changed), 1), ROWS_AT_ONCE):
                    rows = changed[start : start + ROWS_AT_ONCE]
                    await self.say(self._update(rows, gone if not start else [], anew=anew))
                    anew = False
                deadline = trio.current_time() + EVERY_S
                while (left := deadline - trio.current_time()) > 0:
                    for told in await listener.hear(left):
                        await self.say(message(told, "told"))

    def _update(self, torrents: list[Torrent], gone: list[InfoHash], *, anew: bool) -> bytes:
        session = self._session
        known = [torrent for torrent in torrents if torrent.info_hash in session.torrents]
        value: dict[str, Any] = {
            "anew": anew,
            "may_steer": self._may_steer,
            "session": session_view(session),
            "torrents": [torrent_view(session, torrent, ROW) for torrent in known],
            "removed": [info_hash.hex() for info_hash in gone],
        }
        return message(value)

    async def _changed(self) -> list[Torrent]:
        found = []
        for number, torrent in enumerate(list(self._session.torrents.values())):
            if number % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            mark = self._mark(torrent)
            # whose connections move, changes
            if mark != self._marks.get(torrent.info_hash) or mark[0]:
                self._marks[torrent.info_hash] = mark
                found.append(torrent)
        return found

    def _mark(self, torrent: Torrent) -> tuple[object, ...]:
        swarm = self._session.swarms.live.get(torrent.info_hash)
        have = torrent.have.count if torrent.have is not None else -1
        record = torrent.record
        return (swarm is not None, torrent.state, torrent.error, have, record.uploaded_bytes, record.label)
