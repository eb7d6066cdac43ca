"""What we learn of ourselves from others: where we are seen, and whether anybody can reach us."""

from collections import OrderedDict
from typing import Final

from bittern.policy.routing import network_of
from bittern.proto.nodeid import is_local
from bittern.terms import Address

VOTERS: Final = 32
"""The latest; each network has one vote, for one alone may lie."""

VOTES_NEEDED: Final = 5
TRACKERS: Final = b"trackers"
TRIAL_S: Final = 15 * 60.0
"""So long, with so many good nodes, somebody should have asked us who was not asked by us."""

GOOD_NODES: Final = 20
QUIET_S: Final = 3600.0
"""Then it is tried again."""

ASKED_KEPT: Final = 4096


class AddressVotes:
    """Where we are seen from outside (BEP 42)."""

    def __init__(self) -> None:
        self._votes: OrderedDict[bytes, str] = OrderedDict()

    def vote(self, voter: Address, host: str) -> str | None:
        """The winner, when this vote makes one: most of the latest voters, and not too few."""
        network = network_of(voter)
        return self._count(network, host) if network and not is_local(voter.host) else None

    def trackers_vote(self, host: str) -> str | None:
        """All of them have one together: who makes a .torrent chooses as many as he likes."""
        return self._count(TRACKERS, host)

    def _count(self, network: bytes, host: str) -> str | None:
        if is_local(host):
            return None
        self._votes[network] = host
        self._votes.move_to_end(network)
        if len(self._votes) > VOTERS:
            self._votes.popitem(last=False)
        count = sum(one == host for one in self._votes.values())
        return host if count >= VOTES_NEEDED and 2 * count > len(self._votes) else None


class Whereabouts:
    """Our addresses of both families, as peers (BEP 10, `yourip`) and trackers (BEP 24) see them."""

    def __init__(self) -> None:
        self.hosts: dict[bool, str] = {}
        """By IPv6 or not."""
        self._votes = {False: AddressVotes(), True: AddressVotes()}

    def vote(self, voter: Address | None, host: str) -> bool:
        """By a peer, or (None) a tracker; True when it changes where we are."""
        votes = self._votes[":" in host]
        winner = votes.trackers_vote(host) if voter is None else votes.vote(voter, host)
        if winner is None or self.hosts.get(":" in host) == winner:
            return False
        self.hosts[":" in host] = winner
        return True


class Reachability:
    """Read-only or not (BEP 43): who hears no query but from those it has asked itself cannot be reached."""

    def __init__(self, now: float) -> None:
        self.read_only = False
        self._since = now
        self._heard = False
        self._asked: OrderedDict[str, None] = OrderedDict()

    def asked(self, host: str) -> None:
        """We sent something there: its way back is open now."""
        self._asked[host] = None
        self._asked.move_to_end(host)
        if len(self._asked) > ASKED_KEPT:
            self._asked.popitem(last=False)

    def queried(self, host: str, now: float) -> None:
        """A query came in."""
        if host not in self._asked:
            self._heard = True
            if self.read_only:
                self.read_only, self._since = False, now

    def judge(self, good_nodes: int, now: float) -> None:
        """From time to time."""
        if self.read_only:
            if now - self._since >= QUIET_S:
                self.read_only, self._since, self._heard = False, now, False
        elif good_nodes < GOOD_NODES:
            # few know us: it says nothing that nobody asks
            self._since = now
        elif now - self._since >= TRIAL_S:
            self.read_only = not self._heard
            self._since, self._heard = now, False
