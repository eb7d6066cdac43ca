"""Who has which rate limits: the two that all torrents share, and the shares of those with limits of their own."""

from bittern.engine.settings import Settings
from bittern.engine.throttle import RateLimit, Share, Throttle
from bittern.engine.torrent import Torrent
from bittern.policy.limits import WEIGHTS
from bittern.terms import InfoHash


class RateLimits:
    """One for the process."""

    def __init__(self, settings: Settings) -> None:
        self._download = Throttle(settings.download_rate)
        self._upload = Throttle(settings.upload_rate)
        self._shares: dict[InfoHash, tuple[Share, Share]] = {}
        """Of live torrents with limits of their own."""

    def apply(self, settings: Settings) -> bool:
        """Those for all, from now on; True: something stops or goes on, for which nobody may wait until it looks."""
        were_stopped = self._download.stopped, self._upload.stopped
        self._download.set_rate(settings.download_rate)
        self._upload.set_rate(settings.upload_rate)
        return were_stopped != (self._download.stopped, self._upload.stopped)

    def of(self, torrent: Torrent) -> tuple[RateLimit, RateLimit]:
        """What it may receive, and what it may send, as its record says now."""
        limits = torrent.record.limits
        shares = self._shares.get(torrent.info_hash)
        if shares is None:
            if limits.moves_as_others:
                return self._download, self._upload
            shares = Share(self._download), Share(self._upload)
            self._shares[torrent.info_hash] = shares
        for share, rate in zip(shares, (limits.download, limits.upload), strict=True):
            share.set(rate, heeds=limits.heeds_session, weight=WEIGHTS[limits.bandwidth_priority])
        if limits.moves_as_others:
            del self._shares[torrent.info_hash]
            return self._download, self._upload
        return shares

    def forget(self, info_hash: InfoHash) -> None:
        """It is parked."""
        self._shares.pop(info_hash, None)
