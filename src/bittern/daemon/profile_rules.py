"""What no single key of a [[profile]], or of a watched folder whose sub-folders are looked into, can know."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bittern.daemon.config_reader import Faults, nearest
from bittern.policy.labels import label_fault

if TYPE_CHECKING:
    from bittern.daemon.config_schema import Config


def judge_profiles(config: "Config", faults: Faults) -> None:
    """Adds a fault for each combination that cannot work."""
    names: dict[str, int] = {}
    for number, row in enumerate(config.profile):
        where = f"profile[{number}]"
        if row.name in names:
            faults.add(f"{where}.name", f"profile[{names[row.name]}] has this name already: choose another")
        names.setdefault(row.name, number)
        judge_folder_patterns(row.watch, f"{where}.watch", faults)
        if row.at_most and row.at_most < row.at_least:
            faults.add(f"{where}.at_most", "smaller than at_least, so nothing fits: correct one of the two")
        if fault := label_fault(row.label or ""):
            faults.add(f"{where}.label", fault)
        if fault := row.wish(None).selection_fault:
            faults.add(f"{where}: take, skip", fault)
        known = config.hook_names()
        for name in row.hooks or ():
            if name not in known:
                meant = nearest(name, known)
                advice = f'did you mean "{meant}"?' if meant else "name one by its key `name`,"
                faults.add(f"{where}.hooks", f"there is no hook of that name, {advice} or remove it")
    for number, watch in enumerate(config.watch):
        if watch.subfolders:
            _judge_subfolders(config, number, faults)


def _judge_subfolders(config: "Config", number: int, faults: Faults) -> None:
    """Data must not be taken for drops."""
    folder = str(config.watch[number].folder)
    others = {
        f"watch[{one}].folder": str(row.folder) for one, row in enumerate(config.watch) if one != number
    }
    inside = [
        (what, path)
        for what, path in (
            *((f"{one} (data of torrents)", one) for one in config.data_folders()),
            (f"{config.paths.incomplete} (data of torrents)", str(config.paths.incomplete)),
            (f"{config.paths.state} (paths.state)", str(config.paths.state)),
            *((f"{path} ({what})", path) for what, path in others.items()),
        )
        if path and folder and os.path.commonpath((path, folder)) == folder
    ]
    for what, _ in inside[:1]:
        faults.add(
            f"watch[{number}].subfolders",
            f"{what} lies in this folder, and would be looked into for drops: move it, or write subfolders = false",
        )


def judge_folder_patterns(patterns: Sequence[str], where: str, faults: Faults) -> None:
    """Each is the path of a folder, or may match one."""
    for number, pattern in enumerate(patterns):
        if not pattern.startswith(("/", "*")) or (pattern.endswith("/") and pattern != "/"):
            faults.add(
                f"{where}[{number}]",
                f'"{pattern}" is never the path of a folder: write the whole one, without a slash at its end, '
                'such as "/srv/bittern/drop", or a pattern such as "*/films"',
            )
