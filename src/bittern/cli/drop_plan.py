"""What would become of a drop: as the daemon would decide it, without any of it being done."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bittern.daemon.config import Config, Watch
from bittern.daemon.looks import Look, look_at
from bittern.daemon.magnet_lines import MAX_LINES, magnet_lines, too_many_lines
from bittern.daemon.modes import rights_of, shown_group
from bittern.daemon.profile_schema import Sidecar
from bittern.daemon.profiles import Decision, Profiles, facts_of
from bittern.daemon.sidecars import SidecarError, look_at_sidecar
from bittern.daemon.sweep import is_drop_name, is_magnet_name
from bittern.disk.paths import plan_paths
from bittern.engine.selecting import names_below
from bittern.errors import BitternError, MagnetError, MetainfoError
from bittern.policy.add_terms import AddTerms
from bittern.policy.selection import NORMAL, SKIP, choose
from bittern.proto.magnet import Magnet, parse_magnet
from bittern.proto.metainfo import Metainfo, parse_metainfo

_INSTEAD: Final = {
    "gone": "there is no such file",
    "odd": "no regular file: drop the file itself",
    "changed": "is being written: ask again",
}


class RefusedError(BitternError):
    """The file would be refused, or cannot be looked at; the message is one line."""


@dataclass(frozen=True, slots=True)
class _Drop:
    """Where it lies, and what lies beside it."""

    config: Config
    folder: str
    sidecar: Sidecar | None

    @property
    def row(self) -> Watch | None:
        """Whose drops would be looked for there: that watched folder, or one above that looks into sub-folders."""
        for row in self.config.watch:
            root = str(row.folder)
            if self.folder == root or (row.subfolders and self.folder.startswith(root.rstrip("/") + "/")):
                return row
        return None

    def decision(self, source: Metainfo | Magnet) -> Decision:
        """`SidecarError`."""
        row = self.row
        return Profiles.of(self.config).decide(
            facts_of(self.folder, source),
            self.sidecar,
            AddTerms(
                str((row and row.downloads) or self.config.paths.downloads),
                incomplete=str(self.config.paths.incomplete),
                label=(row.label or None) if row else None,
                priority=(row.priority or None) if row else None,
            ),
        )


def plan_drop(config: Config, file: Path, folder: str) -> dict[str, Any]:
    """As JSON; of a .magnet its `links` and those `refused`. `RefusedError`."""
    path = str(file.absolute())
    look = look_at(path)
    try:
        drop = _Drop(config, folder, look_at_sidecar(path, settled_s=0.0).sidecar)
        where = {"watch": folder if drop.row else None, "ignored": _unheeded(file.name)}
        if look.found != "bytes":
            raise RefusedError(_reason(look))
        if not look.blob:
            raise RefusedError("the file is empty")
        if is_magnet_name(file.name):
            return where | _links(drop, look.blob)
        metainfo = parse_metainfo(look.blob)
        return _named(metainfo) | where | _torrent(drop, metainfo)
    except OSError as error:
        raise RefusedError(f"its sidecar cannot be read ({error.strerror})") from None
    except (MetainfoError, SidecarError) as error:
        raise RefusedError(str(error)) from None


def _reason(look: Look) -> str:
    if look.found == "unreadable":
        return f"cannot be read ({look.reason})"
    return look.reason or _INSTEAD[look.found]


def _unheeded(name: str) -> str | None:
    if is_drop_name(name):
        return None
    if name.startswith("."):
        return "its name begins with a dot, as that of a file which is still being written"
    return "its name ends neither in .torrent nor in .magnet"


def _named(source: Metainfo | Magnet) -> dict[str, Any]:
    return {"name": source.name, "info_hash": source.info_hash.hex()}


def _links(drop: _Drop, blob: bytes) -> dict[str, Any]:
    """Each line by itself, as it would be taken in."""
    if too_many_lines(blob):
        raise RefusedError(f"more than {MAX_LINES} lines, which no .magnet may have")
    links: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for line, text in magnet_lines(blob).items():
        try:
            magnet = parse_magnet(text)
        except MagnetError as error:
            refused.append({"line": line, "reason": str(error)})
        else:
            select = [list(one) for one in magnet.select]
            terms = _terms(drop.config, drop.decision(magnet))
            links.append({"line": line, **_named(magnet), **terms, "select": select})
    if not links:
        first = next((f"line {one['line']}: {one['reason']}" for one in refused), None)
        raise RefusedError(first or "there is no magnet link in it")
    return {"links": links, "refused": refused}


def _torrent(drop: _Drop, metainfo: Metainfo) -> dict[str, Any]:
    decision = drop.decision(metainfo)
    paths = plan_paths(metainfo)
    names = names_below(paths)
    levels = choose(NORMAL * len(names), decision.terms.selection, names)
    files = [
        {"path": path, "length": entry.length, "wanted": level != SKIP}
        for path, entry, level in zip(paths, metainfo.files, levels, strict=True)
        if path is not None
    ]
    wanted_bytes = sum(
        entry.length for entry, level in zip(metainfo.files, levels, strict=True) if level != SKIP
    )
    space = _space(drop.config, decision.terms.downloads, min(wanted_bytes, metainfo.listed_bytes))
    return {**_terms(drop.config, decision), "space": space, "files": files}


def _terms(config: Config, decision: Decision) -> dict[str, Any]:
    terms, chosen = decision.terms, decision.chosen
    rights = chosen.wish.rights.over(rights_of(config.storage))
    return {
        "folder": terms.downloads,
        "incomplete_folder": terms.incomplete or None,
        "label": terms.label or "",
        "priority": terms.priority or 0,
        "take": list(chosen.wish.take or ()),
        "skip": list(chosen.wish.skip or ()),
        "hooks": list(chosen.wish.hooks or ()),
        "download_rate": chosen.wish.download_rate or None,
        "upload_rate": chosen.wish.upload_rate or None,
        "seed_ratio": chosen.wish.seed_ratio,
        "seed_idle_s": chosen.wish.seed_idle_s,
        "seed_for_ever": bool(chosen.wish.seed_for_ever),
        "file_mode": None if rights.file_mode is None else f"{rights.file_mode:04o}",
        "folder_mode": None if rights.folder_mode is None else f"{rights.folder_mode:04o}",
        "group": None if rights.group is None else shown_group(rights.group),
        "because": dict(chosen.sources),
    }


def _space(config: Config, downloads: str, size: int) -> dict[str, Any]:
    """What is free where its data is written first; what other downloads lack is known to the daemon alone."""
    folder = Path(str(config.paths.incomplete) or downloads)
    for place in (folder, *folder.parents):
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        free, reserve = found.f_bavail * found.f_frsize, int(config.storage.reserve)
        missing = max(0, size + reserve - free)
        return {"needed_bytes": size, "free_bytes": free, "reserve_bytes": reserve, "missing_bytes": missing}
    return {}
