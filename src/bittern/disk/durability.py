"""What makes a torrent's files durable: their bytes first, then the folders that name them, the deepest first.

Nothing is claimed of a file before this has ended without an error. After one nothing written to the files since the
last sync may be believed, also when a later sync succeeds: the kernel forgets pages that it failed to write.
Synchronous, for worker threads.
"""

import errno
import os
from collections.abc import Iterable

from bittern.disk.parts import PARTS
from bittern.disk.paths import open_folder_beneath
from bittern.disk.refusal import storage_error
from bittern.disk.rights import give_file, give_folder, is_made, is_ours, made_folders
from bittern.disk.torrent_files import TorrentFiles
from bittern.policy.rights import NO_RIGHTS


def sync(files: TorrentFiles, file_indices: Iterable[int]) -> None:
    """Makes what was written to these files durable, with the names of those that are new.

    After an error nothing written to them since the last sync may be believed, also when a later sync
    succeeds: the kernel forgets pages that it failed to write.
    """
    wanted = [
        index for index in file_indices if files.paths[index] is not None and files.layout.lengths[index]
    ]
    made = set(files.made)
    if any(index in files.parts.files for index in wanted):
        wanted = [index for index in wanted if index not in files.parts.files]
        _sync_parts(files)
    for index in wanted:
        try:
            with files.lease(index, writable=False) as fd:
                os.fdatasync(fd)
                files.require_still_there(index, fd)
        except OSError as error:
            raise files.told(error, "synced", index) from error
    for folder in _folders_of(files, made - {PARTS}):
        try:
            # The folder itself may be reached through a link, what is below it may not.
            plain = 0 if folder == files.folder else os.O_NOFOLLOW
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | plain)
            try:
                if not plain:
                    files.place.require(fd)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise storage_error(error, "synced", folder, files.folder) from error
    files.made.difference_update(made)


def _sync_parts(files: TorrentFiles) -> None:
    """Also that it is there, if we have made it; nothing of it may have been needed so far."""
    path = files.parts.path
    try:
        with files.lease_parts(writable=False) as fd:
            os.fdatasync(fd)
            if not os.path.exists(path):  # noqa: PTH110 — as in full_path
                files.close()
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if PARTS in files.made:
            folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120 — as in full_path
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        if error.errno != errno.ENOENT or PARTS in files.made:
            raise storage_error(error, "synced", path, files.folder) from error


def finish(files: TorrentFiles, made: bytes = b"") -> None:
    """All wanted pieces are verified and written: cuts what hangs over a file's end, makes empty files, syncs
    everything. `made`: packed bits, one a file, of those that were not there before us; who was killed as it made
    one may have left it without its rights.
    """
    if files.read_only:
        return
    for index in files.wanted():
        length = files.layout.lengths[index]
        stamp = files.stamp(index)
        if length and (stamp is None or stamp.size <= length):
            continue
        try:
            with files.lease(index, writable=True) as fd:
                if os.fstat(fd).st_size > length:
                    os.ftruncate(fd, length)
        except OSError as error:
            raise files.told(error, "finished", index) from error
    if files.rights != NO_RIGHTS and any(made):
        _give_rights(files, made)
    # Whoever made the files may have been another Storage, or an earlier process that was killed.
    files.made.update(files.placed())
    if files.parts.files and os.path.exists(files.parts.path):  # noqa: PTH110 — as in full_path
        files.made.add(PARTS)
    sync(files, files.real())


def _give_rights(files: TorrentFiles, made: bytes) -> None:
    for index in files.wanted():
        if index in files.parts.files or not is_made(index, made):
            continue
        try:
            with files.lease(index, writable=False) as fd:
                if is_ours(fd):
                    give_file(fd, files.rights, files.full_path(index))
        except OSError as error:
            raise files.told(error, "finished", index) from error
    for inner in made_folders(files.paths, made):
        path = f"{files.folder}/{inner}"
        try:
            fd = open_folder_beneath(files.folder, inner, top=files.place.open)
        except FileNotFoundError:
            continue  # of skipped files
        except OSError as error:
            raise storage_error(error, "finished", path, files.folder) from error
        try:
            if is_ours(fd):
                give_folder(fd, files.rights, path)
        finally:
            os.close(fd)


def _folders_of(files: TorrentFiles, file_indices: Iterable[int]) -> list[str]:
    """The folders that hold these files, up to `folder` itself, each once, the deepest first."""
    folders = {files.folder}
    for index in file_indices:
        inner = os.path.dirname(files.paths[index] or "")  # noqa: PTH120 — as in full_path
        while inner:
            folders.add(os.path.join(files.folder, inner))  # noqa: PTH118 — as in full_path
            inner = os.path.dirname(inner)  # noqa: PTH120 — as in full_path
    return sorted(folders, key=len, reverse=True) if len(folders) > 1 or file_indices else []
