"""Behind which addresses a host may be found, and what is said when it is not."""

import math
from typing import Final, Protocol
from urllib.parse import unquote

from bittern.errors import TrackerError
from bittern.net.scope import close_by

WORDS_AT_MOST: Final = 120
NEXT_DOOR_S: Final = 2.0
"""An address that does not let us in by then is left for the next one of the same host."""

DOORS_REMEMBERED: Final = 512
ASKED_CLOSE_BY: Final = ("/announce", "/scrape")
"""With what paths begin that a stranger's URL may name on this machine, as libtorrent has it too."""


PRIVILEGED_PORTS: Final = 1024
"""Below it are the services of the machine itself: names, time, logs."""


class LooksUp(Protocol):
    """Names to numeric addresses, or `TrackerError`."""

    async def lookup(self, host: str) -> tuple[str, ...]:
        """The best first."""


class Unreachable(TrackerError):
    """Nobody answered: the fault is the host's or the network's, whatever was asked."""


class Doors:
    """The addresses of hosts, as we have looked them up: a host that has two for us is asked at the second when nobody
    is at the first. Host and the name that TLS is to prove stay as they were.

    `wary`: URLs are strangers'. Services of this machine and its link, which trust whoever is here, are asked nothing
    but announces, also where a redirect leads to them.
    """

    def __init__(self, names: LooksUp, local_address: str | None, *, wary: bool = False) -> None:
        self._names = names
        self._wary = wary
        self._v6 = None if local_address is None else ":" in local_address
        self._answered: dict[str, str] = {}
        """By host, the address to ask first."""

    def admits(self, address: str, path: str) -> bool:
        """May that path (and query) be asked for there?"""
        return not self._wary or not close_by(address) or is_announce(path)

    async def of(self, host: str, path: str) -> list[str]:
        """Where that path may be asked for: at least one, the best first; `TrackerError`."""
        found = [
            one for one in await self._names.lookup(host) if self._v6 is None or (":" in one) is self._v6
        ]
        if not found:
            raise Unreachable("has no address of that family")
        found = [one for one in found if self.admits(one, path)]
        if not found:
            raise TrackerError("is on this machine, where only /announce is asked", retry_in_s=math.inf)
        found.sort(key=lambda address: address != self._answered.get(host))
        return found

    def answered(self, host: str, address: str) -> None:
        """It is asked first from now on."""
        self._answered.pop(host, None)
        self._answered[host] = address
        if len(self._answered) > DOORS_REMEMBERED:
            del self._answered[next(iter(self._answered))]


def is_announce(path: str) -> bool:
    """What stands before `..` says nothing."""
    return path.startswith(ASKED_CLOSE_BY) and ".." not in unquote(path.partition("?")[0])


def admits_datagrams(address: str, port: int, url_data: str) -> bool:
    """May a tracker that a stranger named be asked there in datagrams? Close by no service of the machine itself, and
    nothing of the stranger's own words but what an announce is called by; a slash alone is no word.
    """
    wordless = url_data in {"", "/"}
    return not close_by(address) or (port >= PRIVILEGED_PORTS and (wordless or is_announce(url_data)))


def words(error: Exception) -> str:
    """What the system said of a connection that failed: names and numbers of hosts at most."""
    return "".join(c if c.isprintable() else " " for c in str(error))[:WORDS_AT_MOST] or "no reason given"
