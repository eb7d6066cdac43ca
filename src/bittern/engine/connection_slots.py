"""The process's connection slots: how many connections there may be, who gets those that are free, and who gives way.

Invariants: whoever takes one gives it back, once, when its dial has come to nothing or its connection has ended. There
may be one more than allowed for a moment for each who was told to leave, until it has.
"""

from collections.abc import Mapping

import trio

from bittern.engine.admission import Admission, Household
from bittern.terms import InfoHash


class ConnectionSlots:
    """One for the process; `at_most` may be changed at any time, and ends no connection."""

    def __init__(self, live: Mapping[InfoHash, Household], *, at_most: int) -> None:
        self.at_most = at_most
        self.taken = 0
        self._admission = Admission(live)
        self.lonely = 0
        """Downloads that have nobody, a moment ago: what is free is for all of them."""

    def take(self) -> bool:
        """Takes one that is free, if there is one."""
        if self.taken >= self.at_most:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """One that was taken, in whichever way."""
        self.taken -= 1

    def take_over(self, swarm: Household, host: str) -> bool:
        """Takes the one of somebody who has to leave for one from that host ("": for a dial) to that swarm."""
        full = self.taken >= self.at_most
        if not self._admission.somebody_leaves(swarm, host, trio.current_time(), full=full):
            return False
        self.taken += 1
        return True

    def take_over_any(self, *, lonely: bool, host: str) -> bool:
        """The same for a torrent that has no pieces yet; `lonely`: it has nobody."""
        if not self._admission.makes_room(lonely=lonely, host=host, now=trio.current_time()):
            return False
        self.taken += 1
        return True

    @property
    def dials_at_once(self) -> int:
        """How many slots one torrent may take for dials at a time."""
        return max(1, (self.at_most - self.taken) // max(1, self.lonely))
