"""On what terms drops are taken in, and who takes them: what the watched folders ask of the floors below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from bittern.daemon.profiles import Profiles
from bittern.policy.add_terms import AddTerms
from bittern.terms import InfoHash


class AddResult(Protocol):
    """What became of a torrent handed in: "added", "known", or "merged" (known, with new trackers)."""

    @property
    def kind(self) -> Literal["added", "known", "merged"]:
        """What it came to."""
        ...

    @property
    def info_hash(self) -> InfoHash:
        """Whose bytes these are."""
        ...

    @property
    def name(self) -> str:
        """As the torrent calls itself."""
        ...


class WritesReceipts(Protocol):
    """Who tells what has become of dropped files, beside them."""

    def taken(self, info_hashes: Sequence[InfoHash]) -> None:
        """Their records know now which dropped file they came from."""
        ...

    def rejected(self, drop: str, reason: str, moved_to: str) -> None:
        """It cannot be used, and lies there now."""
        ...


class TakesTorrents(Protocol):
    """The session, as the watch folders know it."""

    @property
    def torrents(self) -> Mapping[InfoHash, object]:
        """All that are known."""
        ...

    async def add(self, blob: bytes, terms: AddTerms) -> AddResult:
        """Durable when it returns; `MetainfoError`, `StorageError`."""
        ...

    async def remove(self, info_hash: InfoHash, *, reason: str) -> bool:
        """Stops and forgets a torrent; its data stays."""
        ...

    async def add_magnet(self, link: str, terms: AddTerms) -> AddResult:
        """Durable when it returns; `MagnetError`, `StorageError`."""
        ...

    def tied(self) -> Mapping[str, tuple[InfoHash, ...]]:
        """Path of the dropped file -> torrents, for those that go when their file goes."""
        ...

    async def is_ours(self, path: str) -> bool:
        """Does a torrent's data lie at this path? Not said before all torrents are known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms files of one folder are taken in."""

    folder: str
    after_add: Literal["move", "keep", "delete"]
    downloads: str
    incomplete: str
    label: str
    priority: int = 0
    tie: bool
    receipts: bool = False
    subfolders: bool = False
    root: str = ""
    """Of a sub-folder the watched folder that it lies in."""
    sidecar_grace_s: float = 0.0
    profiles: Profiles | None = None

    def own(self, path: str) -> AddTerms:
        """Of a file there of which nothing else says anything."""
        return AddTerms(
            self.downloads,
            incomplete=self.incomplete,
            # what folders have of which nothing was said: "" and 0
            label=self.label or None,
            priority=self.priority or None,
            watch=self.folder,
            drop_path=path,
            tie=self.tie,
            receipt=path if self.receipts else "",
        )
