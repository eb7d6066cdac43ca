"""Who is told of an event: the rows of the configuration that asked for it, and the programs of the hooks folder."""

import errno
import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from bittern.daemon.config import Config, Hook, Notify, Webhook
from bittern.daemon.deliveries import NO_TORRENT, Delivery, Run
from bittern.daemon.refusals import Refusal
from bittern.engine.events import TorrentFacts
from bittern.policy.labels import UNLABELLED, labels_in

FOLDER_AT_MOST: Final = 100
FOLDER_TIMEOUT_S: Final = 300.0
FOLDER_RETRIES: Final = 5
"""What goes for the programs of the hooks folder, as it does for a [[hook]] by default."""

_Row = TypeVar("_Row", Webhook, Notify)


def facts_of_disk(path: str) -> TorrentFacts:
    """What happened to a file system is told in a torrent's words: its folder, and no torrent."""
    return TorrentFacts(
        number=0,
        info_hash=NO_TORRENT,
        name=path,
        path=path,
        folder=path,
        size_bytes=0,
        labels=(),
        trackers=(),
        downloaded_bytes=0,
    )


def facts_of_refusal(refusal: Refusal) -> TorrentFacts:
    """Of a dropped file that is no torrent's."""
    folder, _, name = refusal.path.rpartition("/")
    return TorrentFacts(
        number=0,
        info_hash=NO_TORRENT,
        name=refusal.drop_path.rpartition("/")[2] or name,
        path=refusal.path,
        folder=folder,
        size_bytes=refusal.size_bytes,
        labels=labels_in(refusal.label),
        trackers=(),
        downloaded_bytes=0,
        watch=refusal.watch,
    )


def runs_for(config: Config, event: str, facts: TorrentFacts) -> list[Run]:
    """Who asked for that event of that torrent, on the terms of now."""
    rows: list[Hook | Webhook | Notify] = [*config.hook, *config.webhook, *config.notify]
    runs: list[Run] = []
    for row in rows:
        if not _asks_for(row, event, facts):
            continue
        new = partial(Run, timeout_s=row.timeout_s, retries=row.retries, retry_after_s=row.retry_after_s)
        match row:
            case Hook():
                runs.append(new(command=row.command))
            case Webhook():
                runs.append(new(webhook=row.url))
            case Notify():
                runs += [new(notify=url) for url in row.urls]
    return runs


def _asks_for(row: Hook | Webhook | Notify, event: str, facts: TorrentFacts) -> bool:
    return (
        event in row.on
        and (not row.name or row.name in facts.hooks)
        and _one_matches(row.label, facts.labels or UNLABELLED)
        and _one_matches(row.watch, list(_with_parents(facts.watch)))
        and _one_matches(row.tracker, [_host_of(url) for url in facts.trackers])
    )


def row_of(delivery: Delivery, run: Run, rows: Sequence[_Row]) -> _Row | None:
    """Of those with that run's URL, the one that it was made from, as it stands now; None when it is gone.

    One URL may stand in several, for other events or in other words.
    """
    asking = [row for row in rows if _asks_for(row, delivery.event, delivery.facts)] or rows
    same = [one for one in delivery.runs if (one.webhook, one.notify) == (run.webhook, run.notify)]
    number = next(number for number, one in enumerate(same) if one is run)
    return asking[min(number, len(asking) - 1)] if asking else None


def _host_of(url: str) -> str:
    """A tracker's; "" where a stranger wrote something that has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _with_parents(folder: str) -> Iterable[str]:
    """A folder and all that it lies in: whoever asks for a folder asks for what is below it too."""
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def add_folders_programs(folder: Path, batch: Sequence[Delivery]) -> None:
    """In a thread: the executables in `folder/EVENT`, in the order of their names, after what the file names. `OSError`
    when that cannot be found out now, for want of descriptors.
    """
    programs: dict[str, list[tuple[str, ...]]] = {}
    for delivery in batch:
        if delivery.event not in programs:
            programs[delivery.event] = _programs(folder / delivery.event)
        known = {run.command for run in delivery.runs}
        delivery.runs += [
            Run(command=command, timeout_s=FOLDER_TIMEOUT_S, retries=FOLDER_RETRIES)
            for command in programs[delivery.event]
            # a batch that could not be spooled comes here again
            if command not in known
        ]


def has_folder(folder: Path, event: str) -> bool:
    """In a thread: may there be programs for that event?"""
    return os.path.lexists(folder / event)


def _programs(folder: Path) -> list[tuple[str, ...]]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise
        return []
    executable = [
        path
        for path in found
        # what may not be looked at (the folder lacks its x, or a link leads where we may not go) is none: `is_file` of
        # it would raise
        if not path.name.startswith(".") and os.path.isfile(path) and os.access(path, os.X_OK)  # noqa: PTH113 — as above
    ]
    # braces in a file's name are no placeholders
    return [(str(path).replace("{", "{{").replace("}", "}}"),) for path in executable[:FOLDER_AT_MOST]]


def _one_matches(patterns: Sequence[str], values: Sequence[str]) -> bool:
    """Without patterns everything matches."""
    return not patterns or any(fnmatchcase(value, pattern) for value in values for pattern in patterns)
