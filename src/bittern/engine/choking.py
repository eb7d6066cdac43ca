"""Who may download from us: the choker's decisions, taken over all swarms at once and carried out."""

from functools import partial
from typing import Final

import trio

from bittern.engine.beats import beat_at
from bittern.engine.peer import Peer
from bittern.engine.settings import Settings
from bittern.engine.swarms import Swarms
from bittern.policy.choker import AutoSlots, Candidate, Choker, auto_slots

ROUND_S: Final = 10.0
"""BEP 3: shorter rounds make fibrillation, longer ones waste slots."""

SMALL: Final = 16
"""Connections, and live torrents: to look through all of them for each who asks costs less than another turn of the
loop. In a crowd those who ask in the same turn are looked at together."""


class Choking:
    """Upload slots are the process's, not a torrent's."""

    def __init__(self, swarms: Swarms, settings: Settings) -> None:
        self._swarms = swarms
        self._settings = settings
        self._choker: Choker[Peer] = Choker(swarms.rng)
        self._auto = AutoSlots()

    def apply(self, settings: Settings) -> None:
        """New limits, from the next round on."""
        self._settings = settings

    @property
    def slots(self) -> int:
        """How many peers may be unchoked now."""
        settings = self._settings
        if settings.upload_slots is not None:
            return settings.upload_slots
        if settings.upload_rate is not None:
            return auto_slots(settings.upload_rate)
        return self._auto.slots

    def asked(self) -> None:
        """Somebody wants a slot for the first time; who is alone in the house need not wait for the answer."""
        swarms = self._swarms
        if swarms.connection_slots.taken > SMALL or len(swarms.live) > SMALL:
            swarms.slots_news.set()
            return
        swarms.supervisor.guard(
            "an upload slot that was asked for",
            partial(self._fill, trio.current_time()),
            lambda _: swarms.slots_news.set(),
            remedy="it is looked at again",
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """A round every ten seconds; in between, a slot that becomes free is given away at once."""
        task_status.started()
        round_at = trio.current_time()
        while True:
            with trio.move_on_at(round_at):
                await self._swarms.slots_news.wait()
            self._swarms.slots_news = trio.Event()
            now = trio.current_time()
            if now >= round_at:
                round_at = beat_at(ROUND_S)
                self._auto.tick(self._swarms.up.rate(now), self._unchoked())
                self._round(now)
            else:
                self._fill(now)

    def _fill(self, now: float) -> None:
        candidates = self._candidates(now)
        leaving = self._choker.to_choke(candidates, self.slots)
        for peer in leaving:
            peer.set_choking(True, now)
        if leaving:
            candidates = self._candidates(now)
        while (lucky := self._choker.free_slot(now, candidates, self.slots)) is not None:
            lucky.set_choking(False, now)
            candidates = self._candidates(now)
        for peer in self._choker.to_try(candidates, self.slots):
            peer.set_choking(False, now)

    def _round(self, now: float) -> None:
        decided = self._choker.round(now, self._candidates(now), self.slots)
        for peer in decided.choke:
            peer.set_choking(True, now)
        for peer in decided.unchoke:
            peer.set_choking(False, now)
        self._fill(now)

    def _unchoked(self) -> int:
        """But for those who are only being tried."""
        here = sum(not peer.am_choking for swarm in self._swarms.live.values() for peer in swarm.peers)
        return here - self._choker.on_trial

    def _candidates(self, now: float) -> list[Candidate[Peer]]:
        return [
            Candidate(
                who=peer,
                interested=peer.interested and not swarm.upload_throttle.stopped,
                snubbed=peer.pipeline.snubbed,
                download_rate=peer.down.rate(now),
                upload_rate=peer.up.rate(now),
                seeding=swarm.torrent.complete,
                unchoked_at=peer.unchoked_at,
                joined_at=peer.joined_at,
                takes=peer.taking.takes(now),
            )
            for swarm in self._swarms.live.values()
            for peer in swarm.peers
        ]
