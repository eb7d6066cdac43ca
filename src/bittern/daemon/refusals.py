"""A dropped file that was refused, as hooks are told of it."""

import hashlib
import random
from dataclasses import dataclass

from bittern.engine.events import new_event_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """`path` is where the file lies once it is set aside, `drop_path` where it was dropped."""

    path: str
    drop_path: str
    reason: str
    watch: str
    label: str
    size_bytes: int
    event_id: str
    at_wall: float


def refusal_id(drop_path: str, size: int, mtime_ns: int, inode: int) -> str:
    """The same for the same file, so that whoever is told of it again after a crash knows it: a UUIDv7 by the time
    when the file was written.
    """
    text = f"{size} {mtime_ns} {inode} {drop_path}".encode("utf-8", "surrogatepass")
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())
    return new_event_id(max(0, mtime_ns) / 1e9, random.Random(seed))
