"""`bittern plan`: what would become of a drop, without dropping it."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from bittern.cli.configuration import HELP, configuration

if TYPE_CHECKING:
    from bittern.daemon.config import Config, Watch

EX_DATAERR: Final = 65


@click.command(epilog="Example: bittern plan --watch /srv/bittern/drop/films film.torrent")
@click.option("--config", "named", metavar="FILE", help=HELP)
@click.option("--watch", metavar="FOLDER", help="As if it were dropped there; else where it lies.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.argument("file", type=click.Path(path_type=Path))
def plan(named: str | None, watch: str | None, as_json: bool, file: Path) -> None:
    """Say what dropping a .torrent FILE would come to: folder, files, profiles and free space. Nothing is added.

    A sidecar beside it counts. Exit status 65, with one line saying why, when the file or its sidecar would be refused.
    """
    config = configuration(named)
    told = _plan(config, file, os.path.abspath(watch) if watch else str(file.absolute().parent))
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _print(told)


def _plan(config: "Config", file: Path, folder: str) -> dict[str, Any]:
    from bittern.daemon.profiles import Profiles, facts_of
    from bittern.daemon.sidecars import SidecarError, parse_sidecar, sidecar_path
    from bittern.disk.paths import plan_paths
    from bittern.engine.selecting import names_below
    from bittern.errors import MetainfoError
    from bittern.policy.selection import NORMAL, SKIP, choose
    from bittern.proto.metainfo import MAX_METAINFO_BYTES, parse_metainfo

    row = _watch_of(config, folder)
    beside = Path(sidecar_path(str(file.absolute())))
    try:
        with file.open("rb") as opened:
            metainfo = parse_metainfo(opened.read(MAX_METAINFO_BYTES + 1))
        sidecar = None
        if beside.is_file() and not beside.is_symlink():
            sidecar = parse_sidecar(beside.read_bytes(), beside.name)
        decision = Profiles.of(config).decide(
            facts_of(folder, metainfo),
            sidecar,
            downloads=str((row and row.downloads) or config.paths.downloads),
            label=row.label if row else "",
            priority=row.priority if row else 0,
        )
    except OSError as error:
        _refuse(file, f"{error.filename or file} cannot be read ({error.strerror})")
    except (MetainfoError, SidecarError) as error:
        _refuse(file, str(error))
    paths = plan_paths(metainfo)
    names = names_below(paths)
    levels = choose(NORMAL * len(names), decision.choice, names)
    files = [
        {"path": path, "length": entry.length, "wanted": level != SKIP}
        for path, entry, level in zip(paths, metainfo.files, levels, strict=True)
        if path is not None
    ]
    wanted_bytes = sum(
        entry.length for entry, level in zip(metainfo.files, levels, strict=True) if level != SKIP
    )
    chosen = decision.chosen
    return {
        "name": metainfo.name,
        "info_hash": metainfo.info_hash.hex(),
        "watch": folder if row else None,
        "folder": decision.downloads,
        "incomplete_folder": str(config.paths.incomplete) or None,
        "label": decision.label,
        "priority": decision.priority,
        "take": list(chosen.wish.take or ()),
        "skip": list(chosen.wish.skip or ()),
        "hooks": list(chosen.wish.hooks or ()),
        "download_rate": chosen.wish.download_rate or None,
        "upload_rate": chosen.wish.upload_rate or None,
        "seed_ratio": chosen.wish.seed_ratio,
        "seed_idle_s": chosen.wish.seed_idle_s,
        "seed_for_ever": bool(chosen.wish.seed_for_ever),
        "because": dict(chosen.sources),
        "space": _space(config, decision.downloads, min(wanted_bytes, metainfo.listed_bytes)),
        "files": files,
    }


def _watch_of(config: "Config", folder: str) -> "Watch | None":
    """Whose drops would be looked for there: the watched folder, or the one above it that looks into sub-folders."""
    for row in config.watch:
        root = str(row.folder)
        if folder == root or (row.subfolders and folder.startswith(root.rstrip("/") + "/")):
            return row
    return None


def _space(config: "Config", downloads: str, size: int) -> dict[str, Any]:
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


def _refuse(file: Path, reason: str) -> NoReturn:
    from bittern.cli.terminal import harmless

    click.echo(harmless(f"{file}: {reason}"), err=True)
    sys.exit(EX_DATAERR)


def _print(told: dict[str, Any]) -> None:
    from bittern.cli.terminal import print_facts, print_table
    from bittern.cli.units import size

    because, space = told["because"], told["space"]

    def sourced(key: str, text: str, of: str = "") -> tuple[str, str]:
        source = because.get(of or key)
        return key, f"{text}  ({source})" if text and source else text

    verdict = ""
    if space:
        verdict = f"{size(space['needed_bytes'])} of {size(space['free_bytes'])} free"
        verdict += f", {size(space['reserve_bytes'])} stay free"
        missing = space["missing_bytes"]
        verdict += f": {size(missing)} are missing, it would wait" if missing else ": it fits"
    rates = [
        f"{way} {size(told[f'{way}_rate'])}/s ({because[f'{way}_rate']})"
        for way in ("download", "upload")
        if told[f"{way}_rate"]
    ]
    seeding = [
        f"{key.replace('_', ' ')}{'' if told[key] is True else f' {told[key]:g}'} ({because[key]})"
        for key in ("seed_ratio", "seed_idle_s", "seed_for_ever")
        if told[key]
    ]
    print_facts(
        [
            ("name", told["name"]),
            ("info hash", told["info_hash"]),
            ("watched folder", told["watch"] or "none: it would not be taken in where it lies"),
            sourced("folder", told["folder"], "downloads"),
            ("until complete", told["incomplete_folder"] or ""),
            sourced("label", told["label"]),
            sourced("priority", str(told["priority"])),
            sourced("hooks", " ".join(told["hooks"])),
            sourced("take", " ".join(told["take"])),
            sourced("skip", " ".join(told["skip"])),
            ("rates", "\n".join(rates)),
            ("seeding", "\n".join(seeding)),
            ("space", verdict),
        ]
    )
    click.echo()
    print_table(
        ("size", "", "file"),
        ([size(file["length"]), "" if file["wanted"] else "skipped", file["path"]] for file in told["files"]),
        right=("size",),
    )
