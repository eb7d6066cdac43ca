"""Who leaves when the house is full and somebody knocks.

A connection that is of no use gives way (`policy/room.py`). Its host is remembered: whoever was shown out and comes
back finds a full house full, and may at most take the place of another from the same host. So those who hold
connections for their own sake cannot take turns at keeping the others out, and people behind one address are no worse
off than among themselves.
"""

from collections.abc import Iterable
from typing import Final

from bittern.engine.peer import Peer

SHOWN_OUT_S: Final = 600.0
SHOWN_OUT_AT_MOST: Final = 4096
"""Hosts remembered; the longest known go first."""

LOOK_AGAIN_S: Final = 1.0
"""Who knocks in vain makes us look through everybody: once a second is enough."""


class Admission:
    """The process's."""

    def __init__(self) -> None:
        self._shown_out: dict[str, float] = {}
        """Hosts, until when."""

    def give_way(self, peers: Iterable[Peer], host: str, now: float) -> bool:
        """Closes the connection that is of least use; False when all are of some. `host`: who knocks, "" for us."""
        again = bool(host) and self._was_shown_out(host, now)
        worst, score = None, 1.0
        for peer in peers:
            if peer.scope.cancel_called or (again and peer.address.host != host):
                continue
            useless = peer.uselessness(now)
            if useless >= score:
                worst, score = peer, useless
        if worst is None:
            return False
        self._remember(worst.address.host, now)
        worst.close()
        return True

    def _was_shown_out(self, host: str, now: float) -> bool:
        return self._shown_out.get(host, 0.0) > now

    def _remember(self, host: str, now: float) -> None:
        self._shown_out.pop(host, None)
        self._shown_out[host] = now + SHOWN_OUT_S
        if len(self._shown_out) > SHOWN_OUT_AT_MOST:
            del self._shown_out[next(iter(self._shown_out))]
