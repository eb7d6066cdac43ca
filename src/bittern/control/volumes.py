"""The file systems that data may lie on, and how much room they have: as the engine saw them last, every two seconds,
so that a mount that hangs holds up nobody who asks.
"""

from collections.abc import Sequence
from typing import Any

from bittern.engine.session import Session


def volume_views(session: Session, folders: Sequence[str]) -> list[dict[str, Any]]:
    """One for each file system of these folders; those that were not looked at yet are left out. `away`: why a folder
    cannot be used, "" when it can.
    """
    found: dict[object, dict[str, Any]] = {}
    for folder in folders:
        look = session.guard.looks.get(folder)
        if look is None:
            continue
        # one that is not mounted is on no file system, or on another one than it should be
        key: object = look.device if not look.away else folder
        known = found.setdefault(
            key,
            {"folders": [], "free_bytes": look.free_bytes, "size_bytes": look.size_bytes, "away": look.away},
        )
        known["folders"].append(folder)
    return list(found.values())
