"""Names to addresses, off the loop: under a deadline, remembered shortly, asked once for all who want the same."""

import functools
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from bittern.errors import TrackerError
from bittern.net.http import Unreachable
from bittern.net.scope import ANYWHERE, DialScope
from bittern.net.transport import plain_address

DEADLINE_S: Final = 10.0
KEPT_S: Final = 300.0
RETRY_S: Final = 30.0
"""A name that could not be looked up is asked for again after this."""

KEPT_AT_MOST: Final = 1024
THREADS: Final = 8
"""A resolver that is stuck keeps its thread beyond our deadline: not more than these."""

ADDRESSES_AT_MOST: Final = 16

LOOPBACK: Final = ("127.0.0.1", "::1")

Resolve = Callable[[str], list[str]]
"""In a thread; `OSError` or `UnicodeError` when there is no such name."""


class _Lookup:
    __slots__ = ("addresses", "done", "until")

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.until = 0.0
        self.done = trio.Event()


class Names:
    """One for the process."""

    def __init__(self, *, scope: DialScope = ANYWHERE, resolve: Resolve | None = None) -> None:
        self._scope = scope
        self._resolve = resolve or _resolve
        self._threads = trio.CapacityLimiter(THREADS)
        self._known: OrderedDict[str, _Lookup] = OrderedDict()
        self._under_way: dict[str, _Lookup] = {}

    async def lookup(self, host: str) -> tuple[str, ...]:
        """Numeric addresses of both families that somebody can be at, the system's favourites first.

        `Unreachable` when there are none, or not in time; `TrackerError` when it lies beyond our scope.
        """
        if not self._scope.allows(host):
            raise TrackerError("is not on this machine (dial_scope)", retry_in_s=float("inf"))
        if _usable(host):
            return (host,)
        if host == "localhost":
            # whatever the system has been told (RFC 6761 §6.3), and without asking anybody
            return LOOPBACK
        while True:
            known = self._known.get(host)
            if known is not None and trio.current_time() < known.until:
                break
            other = self._under_way.get(host)
            if other is None:
                await self._look_up(host)
            else:
                # if it was cancelled, it is our turn
                await other.done.wait()
        self._known.move_to_end(host)
        found = tuple(one for one in known.addresses if self._scope.allows(one))
        if not found:
            raise Unreachable("has a name that cannot be looked up")
        return found

    async def _look_up(self, host: str) -> None:
        made = self._under_way[host] = _Lookup()
        try:
            with trio.move_on_after(DEADLINE_S):
                try:
                    found = await trio.to_thread.run_sync(
                        self._resolve, host, abandon_on_cancel=True, limiter=self._threads
                    )
                    made.addresses = tuple(filter(_usable, dict.fromkeys(found)))[:ADDRESSES_AT_MOST]
                except (OSError, UnicodeError, ValueError):
                    pass
            now = trio.current_time()
            made.until = now + (KEPT_S if made.addresses else RETRY_S)
            before = self._known.get(host)
            if not made.addresses and before is not None:
                # names fail more often than hosts move
                made.addresses = before.addresses
            self._known[host] = made
            if len(self._known) > KEPT_AT_MOST:
                self._known.popitem(last=False)
        finally:
            del self._under_way[host]
            made.done.set()


def _resolve(host: str) -> list[str]:
    found = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)
    return [plain_address(str(name[0]), 1).host for *_, name in found]


@functools.lru_cache(maxsize=KEPT_AT_MOST)
def _usable(host: str) -> bool:
    """A numeric address that is somebody's."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_multicast or address.is_unspecified or host == "255.255.255.255" or "%" in host)
