"""Who leaves when the house is full and somebody is to come in.

First a connection that is of no use gives way (`policy/room.py`), of several the one of lowest canonical priority. Its
host (of IPv6 its /64, for who has one address of it has all) is remembered: whoever was shown out and comes back finds
a full house full, and may at most take the place of another from the same host. So those who hold connections for their
own sake cannot take turns at keeping the others out, and people behind one address are no worse off than among
themselves.

When all are of use, a download of ours that has nobody takes a connection from the torrent that has most; and where
each has one only, they take turns. Only for dials of ours, or whoever knocks at many torrents would drive away those
who serve one.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from bittern.engine.fetch import Fetch
from bittern.engine.peer import Peer
from bittern.policy.exchange import teller_of as host_of
from bittern.policy.roster import Roster
from bittern.terms import InfoHash

SHOWN_OUT_S: Final = 600.0
SHOWN_OUT_AT_MOST: Final = 4096
"""Hosts remembered; the longest known go first."""

LOOK_AGAIN_S: Final = 1.0
"""Who knocks in vain makes us look through everybody: once a second is enough."""

TURN_S: Final = 60.0
"""A torrent's only connection stays this long when others have none: a new one takes some seconds to be of use."""

LONGEST_TURN_S: Final = 600.0
"""... and so long where no piece was brought yet: what is under way is lost with the connection, and a large piece over
a thin line would otherwise never be whole."""


AS_USELESS: Final = 0.75
"""Of the most useless one's measure: who has that much is as useless."""


class Household(Protocol):
    """A live swarm, as far as it matters here."""

    peers: set[Peer]
    roster: Roster
    fetch: Fetch | None
    all_useful_until: float
    """When to look again for one of its peers that could give way."""

    @property
    def wants_peers(self) -> bool:
        """Has it fewer than one torrent may have?"""

    @property
    def lonely(self) -> bool:
        """Is something missing, and nobody here or on the way to bring it?"""


class Admission:
    """The process's."""

    def __init__(self, live: Mapping[InfoHash, Household]) -> None:
        self._live = live
        self._shown_out: dict[str, float] = {}
        """Hosts, until when."""
        self._all_useful_until = 0.0
        """Nobody has to be looked for before: everybody was of use a moment ago."""
        self._none_to_spare_until = 0.0
        """The same of those who could share a useful one."""

    def somebody_leaves(self, swarm: Household, host: str, now: float, *, full: bool) -> bool:
        """For a newcomer to that swarm from that host ("": for a dial of ours): of the swarm when it is full, else of
        any when the house is `full`. False: nobody has to.
        """
        if not swarm.wants_peers:
            if now < swarm.all_useful_until:
                return False
            if not self._useless_one_leaves((swarm,), host, now):
                swarm.all_useful_until = now + LOOK_AGAIN_S
                return False
            return True
        return not full or self.makes_room(lonely=swarm.lonely, host=host, now=now)

    def makes_room(self, *, lonely: bool, host: str, now: float) -> bool:
        """The same in a full house, for a torrent that may have more; `lonely`: it has nobody."""
        return self._any_useless_one_leaves(host, now) or (
            not host and lonely and self._useful_one_leaves(now)
        )

    def _any_useless_one_leaves(self, host: str, now: float) -> bool:
        if now < self._all_useful_until:
            return False
        if self._useless_one_leaves(self._live.values(), host, now):
            return True
        self._all_useful_until = now + LOOK_AGAIN_S
        return False

    def _useless_one_leaves(self, swarms: Iterable[Household], host: str, now: float) -> bool:
        """Of the torrent that has the most useless one: that one, or of several as useless the one that is worth least
        by a number that nobody can choose (BEP 40).
        """
        host = host and host_of(host)
        again = bool(host) and self._was_shown_out(host, now)
        home, score = None, 1.0
        for swarm in swarms:
            for peer in swarm.peers:
                if peer.scope.cancel_called or (again and host_of(peer.address.host) != host):
                    continue
                useless = peer.uselessness(now)
                if useless >= score:
                    home, score = swarm, useless
        if home is None:
            return False
        enough = max(1.0, score * AS_USELESS)
        equals = [
            peer
            for peer in home.peers
            if not (peer.scope.cancel_called or (again and host_of(peer.address.host) != host))
            and peer.uselessness(now) >= enough
        ]
        leaving = _least(equals, home) if len(equals) > 1 else equals[0]
        self._remember(host_of(leaving.address.host), now)
        leaving.close()
        return True

    def _useful_one_leaves(self, now: float) -> bool:
        """For a download that has nobody: the slowest of the torrent with most peers, or one whose turn is over."""
        if now < self._none_to_spare_until:
            return False
        staying = [
            (one, [peer for peer in one.peers if not peer.scope.cancel_called]) for one in self._live.values()
        ]
        richest, its = max(staying, key=lambda entry: len(entry[1]), default=(None, []))
        if richest is not None and len(its) > 1:
            rates = [(peer.down.rate(now) + peer.up.rate(now), peer) for peer in its]
            slowest = min(rate for rate, _ in rates)
            leaving = _least([peer for rate, peer in rates if rate == slowest], richest)
        else:
            over = [
                (0 if one.fetch is None else one.fetch.unfinished_blocks, peer.joined_at, id(peer), peer)
                for one, peers in staying
                for peer in peers
                if _turn_is_over(peer, now)
            ]
            if not over:
                self._none_to_spare_until = now + LOOK_AGAIN_S
                return False
            # what is under way is lost with it: who has least of that goes first
            leaving = min(over)[-1]
        leaving.close()
        return True

    def _was_shown_out(self, host: str, now: float) -> bool:
        return self._shown_out.get(host, 0.0) > now

    def _remember(self, host: str, now: float) -> None:
        self._shown_out.pop(host, None)
        self._shown_out[host] = now + SHOWN_OUT_S
        if len(self._shown_out) > SHOWN_OUT_AT_MOST:
            del self._shown_out[next(iter(self._shown_out))]


def _least(peers: Iterable[Peer], home: Household) -> Peer:
    return min(peers, key=lambda peer: home.roster.priority_of(peer.listens_on or peer.address))


def _turn_is_over(peer: Peer, now: float) -> bool:
    fruitful = peer.trusted or peer.swarm.fetch is None
    return now - peer.joined_at >= (TURN_S if fruitful else LONGEST_TURN_S)
