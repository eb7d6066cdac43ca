"""Which profiles hold for a drop, and what follows from them together.

All that match hold, each for what it names; where several name the same thing the most specific one counts: that of the
deeper folder, then the one that asks for more (name, tracker, size), then the one that is listed first. So a folder's
profile is inherited below it until another one says otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Final

from bittern.errors import FileSelectionError
from bittern.policy.rights import Rights
from bittern.policy.selection import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants of a torrent; None: nothing is said of that."""

    downloads: str | None = None
    label: str | None = None
    priority: int | None = None
    take: tuple[str, ...] | None = None
    skip: tuple[str, ...] | None = None
    download_rate: float | None = None
    """Bytes per second, 0 = no limit of its own; the other one too."""
    upload_rate: float | None = None
    seed_ratio: float | None = None
    seed_idle_s: float | None = None
    seed_for_ever: bool | None = None
    hooks: tuple[str, ...] | None = None
    """Names of hooks that are told of it beside those without a name."""
    file_mode: int | None = None
    folder_mode: int | None = None
    group: int | None = None

    @property
    def rights(self) -> Rights:
        """Of the files and folders that are made for it."""
        return Rights(file_mode=self.file_mode, folder_mode=self.folder_mode, group=self.group)

    @property
    def selection(self) -> Choice:
        """Of its files; `FileSelectionError` for more patterns than one may hold."""
        return Choice(only=self.take or None, skip=self.skip or ())

    @property
    def selection_fault(self) -> str:
        """What is wrong with that, in one clause; "" when nothing is."""
        try:
            self.selection  # noqa: B018 — it is judged when it is made
        except FileSelectionError as error:
            return f"{error}: shorten it"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropFacts:
    """A drop as profiles see it; `size_bytes` None: not known yet, as of a magnet link."""

    folder: str
    name: str
    trackers: tuple[str, ...]
    """The hosts of its trackers."""
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A wish, and whom it is for: of each kind that it names one pattern must match."""

    name: str
    watch: tuple[str, ...] = ()
    """Of the folder where the drop lay, or of one above."""
    torrent: tuple[str, ...] = ()
    tracker: tuple[str, ...] = ()
    at_least_bytes: int = 0
    at_most_bytes: int | None = None
    wish: Wish

    @property
    def asks_for_contents(self) -> bool:
        """Must the torrent be looked into?"""
        return bool(self.torrent or self.tracker or self._asks_for_size)

    @property
    def _asks_for_size(self) -> bool:
        return self.at_least_bytes > 0 or self.at_most_bytes is not None

    def depth(self, folder: str) -> int | None:
        """How deep the folder lies that it matches, 0 when it asks for none; None: it is not for drops there."""
        if not self.watch:
            return 0
        while folder:
            if any(fnmatchcase(folder, pattern) for pattern in self.watch):
                return folder.count("/")
            folder = folder.rpartition("/")[0]
        return None

    def rank(self, facts: DropFacts) -> tuple[int, int] | None:
        """How specific it is; None: it does not hold."""
        depth = self.depth(facts.folder)
        if depth is None or not _one_matches(self.torrent, (facts.name,)):
            return None
        if not _one_matches(self.tracker, facts.trackers) or not self._fits(facts.size_bytes):
            return None
        return depth, bool(self.torrent) + bool(self.tracker) + self._asks_for_size

    def _fits(self, size_bytes: int | None) -> bool:
        if not self._asks_for_size:
            return True
        return (
            size_bytes is not None
            and size_bytes >= self.at_least_bytes
            and (self.at_most_bytes is None or size_bytes <= self.at_most_bytes)
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """All wishes together, and who had each: `sources` by the name of the field."""

    wish: Wish
    sources: Mapping[str, str]


WISHES: Final = tuple(field.name for field in fields(Wish))


def choose(profiles: Sequence[Profile], facts: DropFacts, sidecar: Wish | None = None) -> Chosen:
    """What holds for that drop; a sidecar's word counts more than any profile's."""
    ranked = [(rank, one) for one in profiles if (rank := one.rank(facts)) is not None]
    # stable: of equals the first stays first
    ranked.sort(key=lambda found: found[0], reverse=True)
    layers = [("sidecar", sidecar)] if sidecar is not None else []
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, wish in [*layers, *((f"profile {one.name}", one.wish) for _, one in ranked)]:
        for key in WISHES:
            value = getattr(wish, key)
            if value is not None and key not in values:
                values[key], sources[key] = value, source
    return Chosen(Wish(**values), sources)


def _one_matches(patterns: Sequence[str], values: Sequence[str]) -> bool:
    return not patterns or any(
        fnmatchcase(value.casefold(), pattern.casefold()) for value in values for pattern in patterns
    )
