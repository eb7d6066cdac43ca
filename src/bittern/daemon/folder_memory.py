"""Which folder was which, over restarts."""

import json
from pathlib import Path

import trio

from bittern.daemon.logs import get_log
from bittern.daemon.looks import told
from bittern.daemon.sweep import Identity
from bittern.disk.atomic import write_atomic

log = get_log()


class FolderMemory:
    """For each watched path the folder in which all tied files were seen last.

    With it a file that is missing at the next start was removed; in another folder (an empty mount point, say) it only
    is not there.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / "watched.json"
        self._folders: dict[str, tuple[int, int]] = {}
        """Inode and time of birth."""
        self._lock = trio.Lock()
        self._failed = False

    def load(self) -> None:
        """In a thread. A memory that is lost is safe: nothing is taken as removed until it was seen again."""
        try:
            loaded = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(loaded, dict):
            for path, found in loaded.items():
                match found:
                    # at first only the inode was noted
                    case int(inode) | {"inode": int(inode), "born_ns": 0}:
                        self._folders[path] = inode, 0
                    case {"inode": int(inode), "born_ns": int(born_ns)}:
                        self._folders[path] = inode, born_ns

    def of(self, folder: str) -> Identity | None:
        """As an earlier run saw it last; its device does not count."""
        found = self._folders.get(folder)
        return None if found is None else Identity(-1, *found)

    async def remember(self, folder: str, home: Identity | None) -> None:
        """None: no folder can be trusted to have had them all."""
        known = None if home is None else (home.inode, home.born_ns)
        async with self._lock:
            if self._folders.get(folder) == known:
                return
            folders = {path: found for path, found in self._folders.items() if path != folder}
            if known is not None:
                folders[folder] = known
            blob = json.dumps({path: {"inode": one[0], "born_ns": one[1]} for path, one in folders.items()})
            try:
                await trio.to_thread.run_sync(write_atomic, self._path, blob.encode())
            except OSError as error:
                if not self._failed:
                    log.warning("watch.not_remembered", path=str(self._path), reason=told(error))
                self._failed = True
            else:
                self._folders, self._failed = folders, False
