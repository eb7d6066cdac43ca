"""Which torrents there are, which dropped files they hang on, and of whom something durable is under way."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from bittern.disk.resume import ResumeRecord, share_values
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.torrent import Owner, State, Torrent
from bittern.policy.announcing import AnnounceState
from bittern.terms import InfoHash


class Registry:
    """The session's; synchronous but for waiting. `loaded` is set when all records are read."""

    def __init__(
        self,
        torrents: dict[InfoHash, Torrent],
        lifecycle: Lifecycle,
        *,
        owner: Owner,
        loaded: trio.Event,
        rng: random.Random,
    ) -> None:
        self.torrents = torrents
        self.loaded = loaded
        self.tied: dict[str, tuple[InfoHash, ...]] = {}
        """Kept, not gathered: of ten thousand drops each asks. A file of magnet links may have several."""
        self._lifecycle = lifecycle
        self._owner = owner
        self._rng = rng
        self._changing: dict[InfoHash, trio.Event] = {}
        self._last_number = 0

    def next_number(self) -> int:
        """A small integer that no torrent has had while this runs."""
        self._last_number += 1
        return self._last_number

    def register(self, record: ResumeRecord) -> Torrent:
        """Makes a torrent of a record, which the owner answers for from now on."""
        share_values(record)
        torrent = Torrent(record, AnnounceState(record.trackers, self._rng), self._owner)
        self.torrents[record.info_hash] = torrent
        self.tie(torrent)
        self._lifecycle.seeding.known(torrent)
        self._last_number = max(self._last_number, record.number)
        self._lifecycle.whereabouts.claim(torrent)
        if torrent.state is not State.STOPPED and self._lifecycle.holds.state_of(torrent) is State.OFFLINE:
            torrent.state = State.OFFLINE
        return torrent

    def tie(self, torrent: Torrent) -> None:
        """The removal of its dropped file stops it from now on."""
        record = torrent.record
        if record.tie:
            others = self.tied.get(record.drop_path, ())
            if record.info_hash not in others:
                self.tied[record.drop_path] = (*others, record.info_hash)

    def untie(self, torrent: Torrent) -> None:
        """Its dropped file may go."""
        path = torrent.record.drop_path
        others = tuple([one for one in self.tied.get(path, ()) if one != torrent.info_hash])
        if others:
            self.tied[path] = others
        else:
            self.tied.pop(path, None)

    @contextmanager
    def changing(self, info_hash: InfoHash) -> Iterator[None]:
        """While a torrent is being added or removed, others who want to wait (`settled`)."""
        done = self._changing[info_hash] = trio.Event()
        try:
            yield
        finally:
            del self._changing[info_hash]
            done.set()

    async def settled(self, info_hash: InfoHash) -> Torrent | None:
        """The torrent, if it is known once nothing is under way with it."""
        # each addition asks, and to wait for what has been costs a turn of the loop
        if not self.loaded.is_set():
            await self.loaded.wait()
        while info_hash in self._changing:
            await self._changing[info_hash].wait()
        return self.torrents.get(info_hash)
