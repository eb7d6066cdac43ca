"""Deletes a torrent's files: those that we made and that are as we left them, and folders that this leaves empty.

Synchronous, for a worker thread; safe to repeat after a crash. Names are looked up in open folders, one by one, so no
symbolic link leads out of the torrent's folder.
"""

import os
import stat
from collections.abc import Sequence
from typing import Final

from bittern.disk.copying import remove_unfinished
from bittern.disk.folders import folder_at, folders_of, remove_file, remove_if_empty, sync_folders
from bittern.disk.places import Place
from bittern.disk.refusal import storage_error
from bittern.disk.stamps import FileStamp

_ODD: Final = FileStamp(-2, -2)
"""What is no regular file: none of ours."""


def erase(
    paths: Sequence[str | None], place: Place, made: bytes, stamps: Sequence[FileStamp | None] | None = None
) -> list[str]:
    """Gives the paths (below that place) that stay. `made` has one bit a file; with `stamps`, who looks otherwise now
    was changed by somebody else, and stays. `StorageError`; `PlaceGone` when another folder lies there.
    """
    folder = place.folder
    stay: list[str] = []
    gone: list[str] = []
    for index, path in enumerate(paths):
        if path is None:
            continue
        try:
            stamp = _stamp(path, place)
            ours = index // 8 < len(made) and made[index // 8] & 0x80 >> index % 8
            if stamp is None:
                gone.append(path)
            elif (
                stamp != _ODD
                and ours
                and (stamps is None or (index < len(stamps) and stamp == stamps[index]))
            ):
                remove_file(path, folder, place)
                gone.append(path)
            else:
                stay.append(path)
            remove_unfinished(path, folder, place)
        except OSError as error:
            raise storage_error(error, "deleted", f"{folder}/{path}", folder) from error
    for inner in sorted(folders_of(gone), key=len, reverse=True):
        try:
            remove_if_empty(inner, folder, place)
        except OSError as error:
            raise storage_error(error, "deleted", f"{folder}/{inner}", folder) from error
    try:
        sync_folders(gone, folder, place)
    except OSError as error:
        raise storage_error(error, "synced", folder, folder) from error
    return stay


def _stamp(path: str, place: Place) -> FileStamp | None:
    """None: nothing is there."""
    inner, _, name = path.rpartition("/")
    with folder_at(place.folder, inner, place=place) as fd:
        if fd is None:
            return None
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return FileStamp(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else _ODD
