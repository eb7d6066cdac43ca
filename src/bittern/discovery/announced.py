"""A torrent, as those who announce it see it."""

from typing import NamedTuple, Protocol

from bittern.policy.announcing import AnnounceState
from bittern.terms import Address, InfoHash


class AnnounceFacts(NamedTuple):
    """What a torrent has to tell; `priority` 0 goes before 1. `wide`: it asks several tiers at once."""

    uploaded: int
    downloaded: int
    left: int
    wants_peers: bool
    priority: int
    wide: bool = False
    partial_seed: bool = False
    """It wants no more and has not everything (BEP 21)."""


class Announced(Protocol):
    """A torrent, as the announcer sees it."""

    announce: AnnounceState

    @property
    def info_hash(self) -> InfoHash:
        """Which torrent."""

    def announce_facts(self) -> AnnounceFacts:
        """What to tell, at this moment."""

    def peers_found(self, addresses: tuple[Address, ...]) -> None:
        """The tracker named these."""

    def tracker_switched(self) -> None:
        """Another tracker answered than the one whose peers it has; what this one names comes next."""

    def tracker_answered(self, url: str, trouble: str | None) -> None:
        """A tracker's trouble changed: one line, or None when it answers again."""
