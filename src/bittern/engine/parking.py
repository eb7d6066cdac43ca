"""When a swarm that has nothing to do is parked, and when a parked torrent is woken because somebody may be dialled
again.
"""

import random
from collections.abc import Iterable
from typing import Final

from bittern.engine.swarm import Swarm
from bittern.policy.appointments import Appointments
from bittern.policy.roster import back_off_s
from bittern.terms import InfoHash

LINGER_S: Final = 5.0
"""A swarm without peers stays this long: they often come back at once."""

LINGER_UNFINISHED_S: Final = 60.0
"""With pieces half done it stays longer, for parking gives up what has landed of them; but not for ever, for it holds
memory that others may need."""

SEEK_AGAIN_S: Final = 3600.0
"""Without anybody to dial metadata is sought so much later again: those whom the link names may be there by then."""


class Parking:
    """One for all torrents; of each that is parked it knows when somebody is due, if ever."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._due: Appointments[InfoHash] = Appointments()

    def forget(self, info_hash: InfoHash) -> None:
        """It is live, or may not be."""
        self._due.drop(info_hash)

    def take_due(self, now: float) -> Iterable[InfoHash]:
        """Those that somebody is due for; each once."""
        return self._due.take_due(now)

    def parks(self, swarm: Swarm, now: float) -> bool:
        """Is it to end, for it has had nothing to do for a while? Then it is known when it is woken."""
        since = swarm.idle_since()
        unfinished = swarm.fetch is not None and swarm.fetch.partials
        if since is None or now - since < (LINGER_UNFINISHED_S if unfinished else LINGER_S):
            return False
        due_at = self._dial_again_at(swarm, now)
        if due_at is None:
            return True
        if due_at <= now + LINGER_S:
            return False
        self._due.set(swarm.torrent.info_hash, due_at)
        if swarm.dialled_in_vain:
            swarm.torrent.dialled_in_vain(due_at)
        return True

    def sought(self, info_hash: InfoHash, due_at: float | None, now: float) -> None:
        """Its metadata has not been found; somebody is due then, if anybody is known."""
        self._due.set(info_hash, now + SEEK_AGAIN_S if due_at is None else max(due_at, now + LINGER_S))

    def _dial_again_at(self, swarm: Swarm, now: float) -> float | None:
        """When an idle swarm has somebody to dial; None: never, by itself.

        Whose addresses all fail is woken for them less and less often, whenever each of them would be due.
        """
        torrent = swarm.torrent
        due_at = None if torrent.complete else swarm.roster.next_due_at()
        if due_at is None or due_at <= now:
            return due_at  # somebody is due, and waits for a connection slot
        if swarm.dialled_in_vain:
            return max(due_at, now + back_off_s(torrent.vain_wakes, self._rng))
        return max(due_at, torrent.dial_again_at)
