"""On what terms a drop is taken in: those of its watched folder, of the profiles that match, and of its sidecar."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from bittern.daemon.config import Config
from bittern.daemon.modes import rights_of
from bittern.daemon.profile_schema import Sidecar
from bittern.daemon.sidecars import SidecarError, allowed_folder, allowed_hooks, allowed_rights
from bittern.errors import FileSelectionError
from bittern.policy.add_terms import AddTerms
from bittern.policy.profiles import Chosen, DropFacts, Profile, Wish, choose
from bittern.policy.rights import NO_RIGHTS, Rights
from bittern.proto.magnet import Magnet
from bittern.proto.metainfo import Metainfo


class Decision(NamedTuple):
    """The terms for one torrent; `chosen` says who had each word that was had."""

    terms: AddTerms
    chosen: Chosen


@dataclass(frozen=True, slots=True)
class Profiles:
    """Of one configuration; a value, so that a reload that changes nothing of it changes nothing."""

    profiles: tuple[Profile, ...]
    allowed: tuple[str, ...]
    """Folders in which, or below which, a sidecar may have data put."""
    hooks: frozenset[str]
    rights: Rights = NO_RIGHTS
    """Of all that nothing else is said of."""
    groups: frozenset[int] = frozenset()
    """Those that a sidecar may name."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """As that says."""
        profiles = tuple(row.policy() for row in config.profile)
        rights = rights_of(config.storage)
        groups = {one.wish.group for one in profiles} | {rights.group}
        return cls(
            profiles,
            config.data_folders(),
            config.hook_names(),
            rights,
            frozenset(group for group in groups if group is not None),
        )

    def look_inside(self, folder: str) -> bool:
        """Does it matter for drops of that folder what is in them?"""
        return any(one.asks_for_contents and one.depth(folder) is not None for one in self.profiles)

    def decide(self, facts: DropFacts, sidecar: Sidecar | None, own: AddTerms) -> Decision:
        """`own` are the watched folder's. `SidecarError` when the sidecar, or all together, may not have its way.

        In a thread when there is a sidecar: its folder is looked at on the disk.
        """
        below = choose(self.profiles, facts).wish
        wish = None
        if sidecar is not None:
            folder = None
            if sidecar.downloads is not None:
                folder = allowed_folder(sidecar.downloads, below.downloads or own.downloads, self.allowed)
            if sidecar.hooks is not None:
                allowed_hooks(sidecar.hooks, self.hooks)
            wish = sidecar.wish(folder)
            if wish.rights != NO_RIGHTS:
                allowed_rights(wish.rights, below.rights.over(self.rights), self.groups)
        chosen = choose(self.profiles, facts, wish)
        try:
            return Decision(_followed(chosen.wish, own), chosen)
        except FileSelectionError as error:
            # each says little enough, or it would have been refused
            raise SidecarError(f"take and skip, with those of profiles: {error}") from None


def _followed(wish: Wish, own: AddTerms) -> AddTerms:
    return replace(
        own,
        downloads=_or(wish.downloads, own.downloads),
        label=_or(wish.label, own.label),
        priority=_or(wish.priority, own.priority),
        selection=wish.selection,
        limits=_limits(wish),
        rights=wish.rights,
        hooks=wish.hooks,
    )


def _limits(wish: Wish) -> dict[str, Any]:
    """What is said of its own rates, and of when it has been seeded enough; 0 and not for ever: as all others."""
    changes: dict[str, Any] = {}
    for way in ("download", "upload"):
        rate = getattr(wish, f"{way}_rate")
        if rate:
            changes |= {f"{way}_rate": rate, f"{way}_limited": True}
        elif rate is not None:
            changes[f"{way}_limited"] = False
    for what, value in (("ratio", wish.seed_ratio), ("idle_s", wish.seed_idle_s)):
        mode = f"seed_{what.removesuffix('_s')}_mode"
        if wish.seed_for_ever:
            changes[mode] = "never"
        elif value:
            changes |= {f"seed_{what}": value, mode: "own"}
        elif value is not None or wish.seed_for_ever is not None:
            changes[mode] = "rules"
    return changes


def facts_of(folder: str, source: Metainfo | Magnet | None) -> DropFacts:
    """A drop that was looked into, or was not."""
    match source:
        case Metainfo():
            hosts = _hosts(source.trackers)
            return DropFacts(folder=folder, name=source.name, trackers=hosts, size_bytes=source.listed_bytes)
        case Magnet():
            return DropFacts(
                folder=folder, name=source.name, trackers=_hosts(source.trackers), size_bytes=None
            )
        case None:
            return DropFacts(folder=folder, name="", trackers=(), size_bytes=None)


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _hosts(tiers: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_host(url) for tier in tiers for url in tier))


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
