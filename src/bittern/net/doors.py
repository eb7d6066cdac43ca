"""Behind which addresses a host may be found, and what is said when it is not."""

from typing import Final, Protocol

from bittern.errors import TrackerError

WORDS_AT_MOST: Final = 120
NEXT_DOOR_S: Final = 2.0
"""An address that does not let us in by then is left for the next one of the same host."""

DOORS_REMEMBERED: Final = 512


class LooksUp(Protocol):
    """Names to numeric addresses, or `TrackerError`."""

    async def lookup(self, host: str) -> tuple[str, ...]:
        """The best first."""


class Unreachable(TrackerError):
    """Nobody answered: the fault is the host's or the network's, whatever was asked."""


class Doors:
    """The addresses of hosts, as we have looked them up: a host that has two for us is asked at the second when nobody
    is at the first. Host and the name that TLS is to prove stay as they were.
    """

    def __init__(self, names: LooksUp, local_address: str | None) -> None:
        self._names = names
        self._v6 = None if local_address is None else ":" in local_address
        self._answered: dict[str, str] = {}
        """By host, the address to ask first."""

    async def of(self, host: str) -> list[str]:
        """At least one, the best first; `Unreachable`."""
        found = [
            one for one in await self._names.lookup(host) if self._v6 is None or (":" in one) is self._v6
        ]
        if not found:
            raise Unreachable("has no address of that family")
        found.sort(key=lambda address: address != self._answered.get(host))
        return found

    def answered(self, host: str, address: str) -> None:
        """It is asked first from now on."""
        self._answered.pop(host, None)
        self._answered[host] = address
        if len(self._answered) > DOORS_REMEMBERED:
            del self._answered[next(iter(self._answered))]


def words(error: Exception) -> str:
    """What the system said of a connection that failed: names and numbers of hosts at most."""
    return "".join(c if c.isprintable() else " " for c in str(error))[:WORDS_AT_MOST] or "no reason given"
