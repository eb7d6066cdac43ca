"""What is still to be told of torrents that are not ours any more: a note each, until hooks have it durably.

It is written before the record goes. Whether the removal came to its end is told by the record: as long as that of the
same torrent is there it did not, and the note means nothing.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

from bittern.disk.toml import dump_text, dump_toml, load_text
from bittern.engine.events import Removed, TorrentFacts
from bittern.terms import InfoHash


def dump_farewell(removed: Removed) -> bytes:
    """As TOML."""
    return dump_toml(
        {
            "event_id": removed.event_id,
            "reason": dump_text(removed.reason),
            "at": removed.at_wall,
            "torrent": dump_facts(removed.facts),
        }
    )


def load_farewell(blob: bytes) -> Removed | None:
    """None for what `dump_farewell` did not write."""
    try:
        table = tomllib.loads(blob.decode())
        return Removed(
            facts=load_facts(table["torrent"]),
            event_id=str(table["event_id"]),
            reason=load_text(table["reason"]),
            at_wall=float(table["at"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def dump_facts(facts: TorrentFacts) -> dict[str, object]:
    """As a table of TOML."""
    return {
        "number": facts.number,
        "info_hash": facts.info_hash.hex(),
        "name": dump_text(facts.name),
        "path": dump_text(facts.path),
        "folder": dump_text(facts.folder),
        "size_bytes": facts.size_bytes,
        "labels": [dump_text(label) for label in facts.labels],
        "trackers": [dump_text(url) for url in facts.trackers],
        "downloaded_bytes": facts.downloaded_bytes,
        "watch": dump_text(facts.watch),
        "hooks": list(facts.hooks),
    }


def load_facts(torrent: Mapping[str, Any]) -> TorrentFacts:
    """The reverse; `ValueError`, `KeyError`, `TypeError` or `AttributeError` for anything else."""
    return TorrentFacts(
        number=torrent["number"],
        info_hash=InfoHash(bytes.fromhex(torrent["info_hash"])),
        name=load_text(torrent["name"]),
        path=load_text(torrent["path"]),
        folder=load_text(torrent["folder"]),
        size_bytes=torrent["size_bytes"],
        labels=_load_labels(torrent),
        trackers=tuple(load_text(url) for url in torrent["trackers"]),
        downloaded_bytes=torrent["downloaded_bytes"],
        watch=load_text(torrent.get("watch", "")),
        hooks=tuple(str(name) for name in torrent.get("hooks", ())),
    )


def _load_labels(torrent: Mapping[str, Any]) -> tuple[str, ...]:
    if "labels" in torrent:
        return tuple(load_text(label) for label in torrent["labels"])
    # 0.1 knew one only
    return (load_text(torrent["label"]),) if torrent["label"] else ()
