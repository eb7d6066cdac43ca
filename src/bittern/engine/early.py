"""Peers that ask for a torrent whose record was not read yet: it is read before the others, and they wait for it."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from bittern.errors import HandshakeError
from bittern.net.transport import PeerTransport
from bittern.proto.handshake import Handshake
from bittern.terms import InfoHash

EARLY_AT_MOST: Final = 64
"""Peers that wait; beyond that they may come again in a moment."""

FIRST_SLICE: Final = 8
"""Who waited through the start is let in as soon as these are read; each further slice is twice as long."""

OF_ONE_HOST: Final = 4
"""... so that nobody takes all the places."""

Introduce = Callable[[Handshake, PeerTransport], None]

Guard = Callable[[str, Callable[[], None], Callable[[Exception], None]], None]
"""Runs what one stranger leads to, says what it is, and is told what follows a failure: it costs nobody else."""


class EarlyPeers:
    """In front of `introduce` until all records are read. Synchronous."""

    def __init__(self, introduce: Introduce, guard: Guard) -> None:
        self._introduce = introduce
        self._guard = guard
        self._waiting: list[tuple[Handshake, PeerTransport]] = []
        self._unread: dict[InfoHash, None] | None = None
        """None: not even their names are known."""

    def introduce(self, handshake: Handshake, transport: PeerTransport) -> None:
        """Takes the transport over, or raises `HandshakeError`."""
        if self._unread is not None and handshake.info_hash not in self._unread:
            self._introduce(handshake, transport)
        elif len(self._waiting) >= EARLY_AT_MOST or self._waiting_of(transport.remote.host) >= OF_ONE_HOST:
            raise HandshakeError("no room for another peer yet")
        else:
            self._waiting.append((handshake, transport))

    def _waiting_of(self, host: str) -> int:
        return sum(transport.remote.host == host for _, transport in self._waiting)

    def slices(self, names: Iterable[InfoHash], size: int) -> Iterator[list[InfoHash]]:
        """All names, those that somebody waits for first, at most `size` at once; each slice is read when the next is
        asked for.
        """
        unread = self._unread = dict.fromkeys(names)
        now = min(FIRST_SLICE, size)
        try:
            self._settle()
            while unread:
                wanted = dict.fromkeys(handshake.info_hash for handshake, _ in self._waiting)
                part = list(islice(dict.fromkeys([*wanted, *islice(unread, now)]), now))
                yield part
                now = min(2 * now, size)
                for name in part:
                    unread.pop(name, None)
                self._settle()
        finally:
            unread.clear()
            self._settle()

    def _settle(self) -> None:
        """Lets those go on whose torrent is known now, or not to be."""
        unread = self._unread or {}
        ready = [one for one in self._waiting if one[0].info_hash not in unread]
        self._waiting = [one for one in self._waiting if one[0].info_hash in unread]
        for handshake, transport in ready:
            self._guard(
                f"handshake of {transport.remote}",
                partial(self._introduce, handshake, transport),
                partial(_close, transport),
            )


def _close(transport: PeerTransport, _: Exception) -> None:
    transport.close()
