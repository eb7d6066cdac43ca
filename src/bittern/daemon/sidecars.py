"""Sidecars: `X.toml` beside `X.torrent` says what is wanted of that one torrent.

Whoever may write to a watched folder may write one, and is not trusted further than that: data goes only into folders
that the configuration names, or below them; hooks are named, never written; rights are taken away
and groups are those of the configuration; a link is not followed, so that nothing is
quoted from what lies elsewhere. One with a fault is refused, and its drop with it: nobody wants data in a wrong folder.
"""

import errno
import os
import re
import stat
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bittern.control.folders import folder_within
from bittern.daemon.below import opened
from bittern.daemon.config_reader import Faults, read_table
from bittern.daemon.modes import narrowed, shown_group, widened
from bittern.daemon.profile_schema import Sidecar
from bittern.errors import BitternError
from bittern.policy.labels import label_fault
from bittern.policy.rights import Rights

MAX_SIDECAR_BYTES: Final = 64 * 1024
_MAX_NAME_BYTES: Final = 255

MAX_FAULT_CHARACTERS: Final = 500
"""Keys are quoted, and strangers write them."""

SETTLED_S: Final = 1.0
"""Text does not say where it ends: it has to be as it is for so long."""


_KEY: Final = rb"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_MANY_STEPS: Final = re.compile(rb"(?<![\w\\-])(?:" + _KEY + rb"[ \t]*+\.[ \t]*+){64}")
"""A key such as a.a.a.a...: reading one of 64 KiB takes the parser a minute, in which nothing else runs. No key of ours
has a step, and no name of 64 KiB of files that many dots in a row."""


class SidecarError(BitternError):
    """A sidecar that cannot be followed; the message is one line."""


@dataclass(frozen=True, slots=True)
class SidecarLook:
    """What one look found."""

    found: Literal["none", "unsettled", "sidecar"]
    sidecar: Sidecar | None = None


NO_SIDECAR: Final = SidecarLook("none")


def sidecar_path(drop: str) -> str:
    """Of `X.torrent` and of `X.magnet`: `X.toml`."""
    return drop.rpartition(".")[0] + ".toml"


def look_at_sidecar(drop: str, root: str = "", *, settled_s: float = SETTLED_S) -> SidecarLook:
    """In a thread: reads it if it is there and complete. `SidecarError`, or `OSError` when it cannot be read now.

    `root`: as of `opened`.
    """
    above, _, name = sidecar_path(drop).rpartition("/")
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
    try:
        with opened(above or "/", root) as folder:
            fd = os.open(name, flags, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return NO_SIDECAR
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise SidecarError(f"{name}: is no plain file: remove it, or write the file itself") from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise SidecarError(f"{name}: is no plain file: remove it, or write the file itself")
        # a time in the future is that of another clock
        if 0 <= time.time() - status.st_mtime < settled_s:
            return SidecarLook("unsettled")
        blob = os.read(fd, MAX_SIDECAR_BYTES + 1)
        if os.fstat(fd).st_mtime_ns != status.st_mtime_ns:
            return SidecarLook("unsettled")
    finally:
        os.close(fd)
    return SidecarLook("sidecar", parse_sidecar(blob, name))


def parse_sidecar(blob: bytes, name: str) -> Sidecar:
    """`SidecarError` with all that is wrong with it, in one line."""
    if len(blob) > MAX_SIDECAR_BYTES:
        raise SidecarError(f"{name}: larger than {MAX_SIDECAR_BYTES // 1024} KiB: is it a sidecar?")
    try:
        if _MANY_STEPS.search(blob):
            raise SidecarError(f"{name}: nested too deeply: simplify it")
        table = tomllib.loads(blob.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SidecarError(f"{name}: not UTF-8: save it in that encoding") from None
    except RecursionError:
        raise SidecarError(f"{name}: nested too deeply: simplify it") from None
    except ValueError as error:
        raise SidecarError(f"{name}: not valid TOML: {error}".replace("\n", " ")) from None
    faults = Faults(name)
    sidecar = read_table(Sidecar, table, "", Path("/"), faults)
    if sidecar is not None:
        _judge(sidecar, faults)
    if faults.lines or sidecar is None:
        raise SidecarError("; ".join(line[:MAX_FAULT_CHARACTERS] for line in faults.lines[:3]))
    return sidecar


def _judge(sidecar: Sidecar, faults: Faults) -> None:
    if fault := label_fault(sidecar.label or ""):
        faults.add("label", fault)
    if fault := sidecar.wish(None).selection_fault:
        faults.add("take, skip", fault)
    if sidecar.downloads is not None and not sidecar.downloads:
        faults.add("downloads", "empty: write a folder, or leave the key out")
    elif sidecar.downloads is not None and not _can_be_made(sidecar.downloads):
        faults.add("downloads", "no folder can have this name: shorten it, and leave control characters out")


def _can_be_made(folder: str) -> bool:
    return folder.isprintable() and all(len(part.encode()) <= _MAX_NAME_BYTES for part in folder.split("/"))


def allowed_folder(wanted: str, base: str, allowed: tuple[str, ...]) -> str:
    """In a thread: the folder that a sidecar names, from `base` on. `SidecarError` when it may not."""
    path = wanted if wanted.startswith("/") else f"{base}/{wanted}"
    folder = folder_within(path, allowed)
    if folder is None:
        raise SidecarError(
            "downloads: lies outside the folders that the configuration names for data: name one of those, or one below"
        )
    return folder


def allowed_hooks(named: tuple[str, ...], known: frozenset[str]) -> tuple[str, ...]:
    """`SidecarError` for a hook that the configuration does not have."""
    for one in named:
        if one not in known:
            told = ", ".join(sorted(known)) or "none"
            raise SidecarError(f"hooks: the configuration has no hook of that name; it has {told}")
    return named


def allowed_rights(wanted: Rights, given: Rights, groups: frozenset[int]) -> None:
    """In a thread: `SidecarError` when they give somebody more than what holds without them does."""
    if wanted.group is not None and wanted.group != given.group and wanted.group not in groups:
        told = ", ".join(sorted(map(shown_group, groups))) or "none"
        raise SidecarError(f"group: the configuration gives no files to that group; it has {told}")
    if wrong := widened(wanted, narrowed(given)):
        raise SidecarError(wrong)
