"""Peer exchange among the peers of one torrent (BEP 11): who is connected is told, who is named is dialled."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Protocol

import trio

from bittern.engine.extensions import Extensions, Partner
from bittern.engine.torrent import Torrent
from bittern.policy.exchange import Hearing, Telling, teller_of, worth_telling, worth_trying
from bittern.policy.roster import Roster, Source
from bittern.policy.routing import place_of
from bittern.proto.extension import UT_PEX, ExtensionHandshake
from bittern.proto.pex import REACHABLE, SEED, pack_pex, parse_pex
from bittern.terms import Address

NUMBER: Final = 1
LONGEST_BYTES: Final = 16 * 1024
"""A first message with some two hundred of each kind; later ones have up to fifty."""


NAMED_WHILE_SEEDING: Final = 30
"""With so many addresses a complete torrent takes no more: most peers of a seed come by themselves."""


class Home(Protocol):
    """A swarm, as this sees it."""

    extensions: Extensions
    torrent: Torrent
    roster: Roster

    @property
    def peers(self) -> Collection[Partner]:
        """Who is connected."""

    @property
    def public(self) -> bool:
        """Is it known not to be private? Until then nobody is told of anybody."""

    def reaches(self, host: str) -> bool:
        """May it be dialled at all?"""

    def add_addresses(self, addresses: Iterable[Address], source: Source, told_by: str) -> None:
        """Addresses that may be peers, named by a peer; `told_by`: who answers for that."""


class _View:
    """What one peer and we have told each other."""

    __slots__ = ("hearing", "knows", "telling")

    def __init__(self, now: float) -> None:
        self.telling = Telling(now)
        self.hearing = Hearing(now)
        self.knows: Mapping[Address, int] | None = None
        """Of whom there was nothing left to tell it."""


class PeerExchange:
    """One swarm's; an `Extension`. Not for private torrents (BEP 27)."""

    name = UT_PEX
    number = NUMBER
    longest_bytes = LONGEST_BYTES

    def __init__(self, home: Home, clock: Callable[[], float] = trio.current_time) -> None:
        self._home = home
        self._clock = clock
        self._views: dict[Partner, _View] = {}
        self._latest: Mapping[Address, int] = {}
        """Who was here; the same one while nobody comes or goes, so that each is not compared with each every second:
        28 ms among 200 peers.
        """

    def met(self, partner: Partner, told: ExtensionHandshake) -> None:
        if partner not in self._views:
            self._views[partner] = _View(self._clock())

    def left(self, partner: Partner) -> None:
        self._views.pop(partner, None)

    def heard(self, partner: Partner, payload: bytes) -> bool:
        now = self._clock()
        view = self._views.get(partner)
        # who speaks before he has introduced himself, or too often, is not heard
        if view is None or not view.hearing.may_tell(now):
            return False
        message = parse_pex(payload)
        home = self._home
        seeding = home.torrent.complete
        if not seeding or len(home.roster) < NAMED_WHILE_SEEDING:
            # another port of a host is hardly another peer, but may be somebody who is to be attacked (BEP 11)
            taken = {place_of(address) for address in home.roster}
            taken.update(place_of(one.listens_on or one.address) for one in home.peers)
            teller = partner.address.host
            found = worth_trying(message, teller, taken=taken, seeds=not seeding)
            reachable = [address for address in found if home.reaches(address.host)]
            home.add_addresses(reachable, Source.PEX, teller_of(teller))
        return False

    def tick(self, now: float) -> None:
        if not self._home.public:
            return
        due = [partner for partner, view in self._views.items() if view.telling.due_at <= now]
        if due:
            here = self._here()
            if here.keys() != self._latest.keys():
                self._latest = here
            for partner in due:
                if self._views[partner].knows is not self._latest:
                    self._tell(partner, here, now)

    def _here(self) -> dict[Address, int]:
        """Who is connected and can be connected to, as far as we know."""
        here: dict[Address, int] = {}
        for one in self._home.peers:
            if one.listens_on is not None:
                flags = REACHABLE if one.outbound else 0
                if one.is_seed or one.spoken.upload_only:
                    flags |= SEED
                here[one.listens_on] = here.get(one.listens_on, 0) | flags
        return here

    def _tell(self, partner: Partner, here: dict[Address, int], now: float) -> None:
        if self.name not in partner.spoken.numbers:
            return
        theirs = {
            address: flags
            for address, flags in here.items()
            if address != partner.listens_on and worth_telling(address.host, partner.address.host)
        }
        news = self._views[partner].telling.news(theirs, now)
        if news is None:
            self._views[partner].knows = self._latest
        else:
            self._home.extensions.say(partner, self, pack_pex(*news))
