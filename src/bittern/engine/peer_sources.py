"""Whoever may know who else has a torrent: trackers, the DHT and neighbours; of a private one trackers (BEP 27)."""

from bittern.discovery.announcer import Announcer
from bittern.discovery.dht import Dht
from bittern.discovery.lsd import Lsd
from bittern.engine.torrent import Torrent


class PeerSources:
    """All of them as one."""

    def __init__(self, announcer: Announcer, dht: Dht | None, lsd: Lsd | None) -> None:
        self._announcer = announcer
        self._dht = dht
        self._lsd = lsd

    def add(self, torrent: Torrent) -> None:
        """Trackers, the DHT and neighbours hear of the torrent from now on; of a private one trackers only (BEP 27)."""
        self._announcer.add(torrent)
        if self._dht is not None and not torrent.private:
            self._dht.add(torrent)
        if self._lsd is not None and not torrent.private:
            self._lsd.add(torrent)

    def remove(self, torrent: Torrent) -> None:
        """They do not any more."""
        self._announcer.remove(torrent)
        if self._dht is not None:
            self._dht.remove(torrent)
        if self._lsd is not None:
            self._lsd.remove(torrent)

    def need_peers(self, torrent: Torrent) -> None:
        """It has fewer addresses than it could use."""
        self._announcer.need_peers(torrent)
        if self._dht is not None:
            self._dht.need_peers(torrent)

    def told_private(self, torrent: Torrent) -> None:
        """Its info dictionary has come: if it says that the torrent is private, trackers alone may know of it."""
        if torrent.private and self._dht is not None:
            self._dht.remove(torrent)
        if torrent.private and self._lsd is not None:
            self._lsd.remove(torrent)
