"""Names that somebody gave to files and folders of a torrent, instead of those that follow from its .torrent.

What is kept is the planned path below the torrent's root of each file or folder that has another name, and that name.
So the order in which they were given does not matter, and a name that is given back leaves nothing behind. The root's
own name is not among them: a record has it anyway. Pure, but for `rename_in`, which is for a worker thread.
"""

import errno
import itertools
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bittern.disk.folders import folder_at
from bittern.disk.paths import blind, safe_component
from bittern.disk.places import Place
from bittern.disk.refusal import storage_error
from bittern.errors import FileSelectionError, StorageError

PACKED_CHARACTERS_AT_MOST: Final = 1 << 20
"""Some ten thousand names; a record is written whole."""

_CANNOT_LINK: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class Renaming:
    """A new name for one file or folder, and what the record says before and afterwards. Paths are below the
    torrent's folder, and begin with its root.
    """

    old: str
    new: str
    root_before: str
    root: str
    name_before: str
    """Of the torrent."""
    renames_before: str
    renames: str
    index: int | None
    """Of the file; None: a folder."""


def renamed(paths: Sequence[str | None], packed: str) -> list[str | None]:
    """Planned paths (`disk.paths.plan_paths`), with the names that somebody gave."""
    names = unpack_renames(packed)
    if not names:
        return list(paths)
    folders: dict[str, str] = {}
    return [None if path is None else _renamed(path, names, folders) for path in paths]


def _renamed(path: str, names: Mapping[str, str], folders: dict[str, str]) -> str:
    above, slash, name = path.rpartition("/")
    if not slash:
        return path
    if above not in folders:
        parts = above.split("/")
        now, below = parts[0], ""
        for part in parts[1:]:
            below = f"{below}/{part}" if below else part
            now = f"{now}/{names.get(below, part)}"
        folders[above] = now
    return f"{folders[above]}/{names.get(path.partition('/')[2], name)}"


def unpack_renames(packed: str) -> dict[str, str]:
    """Names by planned paths; what is none is left out, for a damaged record may say anything."""
    try:
        told = json.loads(packed) if packed else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {
        path: name for path, name in told.items() if isinstance(name, str) and name == safe_component(name)
    }


def find(
    planned: Sequence[str | None], packed: str, name: str, path: str, new_name: str, *, lone: bool
) -> Renaming | None:
    """What it means to give `path` that name; None: it has it. `path` is what it is called now, with the torrent's root
    (or the torrent's own `name`) or without; `lone`: the root is a file. `FileSelectionError`.
    """
    if new_name != safe_component(new_name):
        raise FileSelectionError(
            f"{new_name[:255]!r} is no name of a file or folder; {safe_component(new_name)!r} would be"
        )
    now = renamed(planned, packed)
    root = next((one.partition("/")[0] for one in now if one is not None), "")
    path = path.strip("/")
    if path in {root, name}:
        changed = "" if root == new_name else new_name
        index = 0 if lone else None
        return Renaming(root, changed, root, changed, name, packed, packed, index) if changed else None
    for found in (path, f"{root}/{path}", f"{root}/{path.removeprefix(name + '/')}"):
        wanted = _find_in(planned, now, found)
        if wanted is not None:
            break
    else:
        raise FileSelectionError(f"it has no file or folder {path[:255]!r}")
    node, index = wanted
    above = found.rpartition("/")[0]
    if found == f"{above}/{new_name}":
        return None
    if blind(new_name) in _taken(planned, now, node):
        raise FileSelectionError(f"another file or folder of it is called {new_name!r} there already")
    names = unpack_renames(packed)
    below = node.partition("/")[2]
    if node.rpartition("/")[2] == new_name:
        names.pop(below, None)
    else:
        names[below] = new_name
    told = json.dumps(names, ensure_ascii=False, separators=(",", ":")) if names else ""
    if len(told) > PACKED_CHARACTERS_AT_MOST:
        raise FileSelectionError("too many of its files have been given other names")
    return Renaming(found, f"{above}/{new_name}", root, root, name, packed, told, index)


def _find_in(
    planned: Sequence[str | None], now: Sequence[str | None], path: str
) -> tuple[str, int | None] | None:
    """The planned path of what is called so, and which file it is, if it is one."""
    inside, depth = path + "/", path.count("/") + 1
    if depth < 2:
        return None
    for index, (plan, current) in enumerate(zip(planned, now, strict=True)):
        if plan is None or current is None:
            continue
        if current == path:
            return plan, index
        if current.startswith(inside):
            return "/".join(plan.split("/")[:depth]), None
    return None


def _taken(planned: Sequence[str | None], now: Sequence[str | None], node: str) -> set[str]:
    """The names of the others in its folder, as a file system that is blind to case sees them."""
    above, _, own = node.rpartition("/")
    depth, inside = node.count("/"), above + "/"
    found: set[str] = set()
    for plan, current in zip(planned, now, strict=True):
        if plan is None or current is None or not plan.startswith(inside):
            continue
        if plan.split("/", depth + 1)[depth] != own:
            found.add(blind(current.split("/", depth + 1)[depth]))
    return found


def pack_renaming(one: Renaming) -> str:
    """For a record: by this the next start ends what a crash interrupted, or takes it back."""
    told = [one.old, one.new, one.root_before, one.name_before, one.renames_before]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


class UnderWay(NamedTuple):
    """A renaming that may be done on disk or not."""

    old: str
    new: str
    root_before: str
    name_before: str
    renames_before: str


def unpack_renaming(packed: str) -> UnderWay | None:
    """None when there is none, or none that can be read."""
    try:
        told = json.loads(packed) if packed else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, list) or len(told) != 5 or not all(isinstance(one, str) for one in told):
        return None
    found = UnderWay(*told)
    names = itertools.chain(found.old.split("/"), found.new.split("/"), [found.root_before])
    return found if _plain(names) else None


def _plain(names: Iterable[str]) -> bool:
    return all(name == safe_component(name) for name in names)


def may_rename(place: Place, old: str, new: str) -> bool:
    """False: nothing is there that would have to be renamed. `StorageError` when it cannot be, or the name is taken."""
    above, _, old_name = old.rpartition("/")
    new_name = new.rpartition("/")[2]
    try:
        with folder_at(place.folder, above, place=place) as fd:
            if fd is None:
                return False
            here, there = _status(old_name, fd), _status(new_name, fd)
            if there is not None and (here is None or _are_two(fd, old_name, here, new_name, there)):
                raise _in_the_way(f"{place.folder}/{new}")
            if here is not None:
                _require_usual(here)
            return here is not None
    except OSError as error:
        raise storage_error(error, "renamed", f"{place.folder}/{old}", place.folder) from error


def rename_in(place: Place, old: str, new: str) -> None:
    """Gives a file or folder below the place its new name, durably; done already, or nothing there, is fine too. Never
    takes a name that something else has: `StorageError`, and it has the old one. `PlaceGone`.
    """
    above, _, old_name = old.rpartition("/")
    new_name = new.rpartition("/")[2]
    try:
        with folder_at(place.folder, above, place=place) as fd:
            if fd is not None:
                _rename(fd, old_name, new_name, f"{place.folder}/{new}")
                os.fsync(fd)
    except OSError as error:
        raise storage_error(error, "renamed", f"{place.folder}/{old}", place.folder) from error


def _rename(folder: int, old: str, new: str, told: str) -> None:
    here, there = _status(old, folder), _status(new, folder)
    if here is None:
        return
    _require_usual(here)
    if there is None:
        if stat.S_ISDIR(here.st_mode):
            # an empty folder that somebody makes in this very moment is replaced, and nobody misses it
            os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
            return
        try:
            os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)  # the name was free a moment ago
            return
        try:
            os.unlink(old, dir_fd=folder)
        except OSError:
            os.unlink(new, dir_fd=folder)
            raise
    elif not os.path.samestat(here, there):
        raise _in_the_way(told)
    elif stat.S_ISREG(here.st_mode) and _are_two(folder, old, here, new, there):
        # it was killed between the two steps
        os.unlink(old, dir_fd=folder)
    else:
        # a file system that is blind to case
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _are_two(folder: int, old: str, here: os.stat_result, new: str, there: os.stat_result) -> bool:
    """Two names on disk, and not one that a file system which is blind to case finds by both?"""
    return not os.path.samestat(here, there) or {old, new} <= set(os.listdir(folder))


def _require_usual(status: os.stat_result) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise OSError(errno.ELOOP, "it is a link, or no regular file")


def _in_the_way(path: str) -> StorageError:
    return StorageError(
        f"{path}: something else is in the way and is not replaced; move it aside",
        errno=errno.EEXIST,
        path=path,
    )
