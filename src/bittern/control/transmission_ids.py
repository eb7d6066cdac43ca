"""Which torrents a call of Transmission's RPC means."""

from collections import deque
from typing import Final

import trio

from bittern.control.transmission_words import INVALID_PARAMS, Arguments, RpcError
from bittern.control.turns import Turns
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.policy.ordering import MOVED_AT_MOST
from bittern.terms import InfoHash

RECENT: Final = ("recently_active", "recently-active")
RECENT_S: Final = 60.0
REMOVED_AT_MOST: Final = 10_000


class Ids:
    """Numbers, info hashes, all of them, or those of late."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._removed: deque[tuple[float, int]] = deque(maxlen=REMOVED_AT_MOST)
        self._marks: dict[int, tuple[tuple[object, ...], float]] = {}
        """How a torrent looked when it was last asked for as recently active, and since when."""
        self._comparing = trio.Lock()

    def meant(self, arguments: Arguments) -> list[Torrent]:
        """Those; all when none is named. `RpcError`."""
        everyone = self._session.torrents
        ids = arguments.get("ids")
        if ids in RECENT:
            raise RpcError(
                "the recently active ones can be asked for, not steered: name them", INVALID_PARAMS
            )
        if ids is None or ids == []:
            return list(everyone.values())
        wanted = ids if isinstance(ids, list) else [ids]
        if not all(isinstance(one, int | str) and not isinstance(one, bool) for one in wanted):
            raise RpcError("ids are numbers or info hashes", INVALID_PARAMS)
        numbers = {one for one in wanted if isinstance(one, int)}
        hashes = {one.lower() for one in wanted if isinstance(one, str)}
        if not numbers and len(hashes) < 100:
            found = (everyone.get(_info_hash(one)) for one in hashes)
            return [torrent for torrent in found if torrent is not None]
        return [
            torrent
            for torrent in everyone.values()
            if torrent.record.number in numbers or torrent.info_hash.hex() in hashes
        ]

    async def recent(self) -> tuple[list[Torrent], list[int]]:
        """Those that changed within a minute or are about something, and the numbers of those that went."""
        async with self._comparing:
            now, turns = trio.current_time(), Turns()
            marks: dict[int, tuple[tuple[object, ...], float]] = {}
            active = []
            for torrent in list(self._session.torrents.values()):
                if not await self.is_ours(torrent, turns):
                    continue
                record = torrent.record
                have = torrent.have.count if torrent.have is not None else 0
                told = (
                    record.uploaded_bytes,
                    record.label,
                    record.limits,
                    record.priority,
                    record.rank,
                    record.trackers,
                    (record.name, record.root, record.renames, record.folder),
                    (record.selection, record.sequential, record.forced),
                )
                look = (torrent.state, torrent.error, have, told)
                before, since = self._marks.get(record.number, (None, now))
                marks[record.number] = (look, since if look == before else now)
                if now - marks[record.number][1] < RECENT_S or torrent.info_hash in self._session.swarms.live:
                    active.append(torrent)
            self._removed.extend((now, number) for number in self._marks.keys() - marks.keys())
            while self._removed and now - self._removed[0][0] > RECENT_S:
                self._removed.popleft()
            self._marks = marks
            return active, [number for _, number in self._removed]

    def named(self, arguments: Arguments) -> list[Torrent]:
        """For what must not happen to all torrents because of a client's slip."""
        if "ids" not in arguments or arguments["ids"] in ([], None):
            raise RpcError("say which torrents: ids", INVALID_PARAMS)
        return self.meant(arguments)

    async def is_ours(self, torrent: Torrent, turns: Turns) -> bool:
        """Still, when it is its turn? Meanwhile somebody may have removed it."""
        await turns.next()
        return self._session.torrents.get(torrent.info_hash) is torrent

    def few(self, arguments: Arguments) -> list[Torrent]:
        """Each that is moved is compared with all the others."""
        chosen = self.named(arguments)
        if len(chosen) > MOVED_AT_MOST:
            raise RpcError(f"at most {MOVED_AT_MOST} torrents are moved in the queue at once", INVALID_PARAMS)
        return chosen


def _info_hash(digits: str) -> InfoHash:
    try:
        return InfoHash(bytes.fromhex(digits))
    except ValueError:
        return InfoHash(b"")
