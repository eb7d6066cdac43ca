"""The `session-*` calls of Transmission's RPC, and the few that are about nothing else."""

import contextlib
import os
import time
from typing import Final

from bittern.control.ports import Daemon
from bittern.control.transmission_fields import snake
from bittern.control.transmission_folders import RpcFolders
from bittern.control.transmission_session_limits import limits_asked, limits_told
from bittern.control.transmission_words import (
    INVALID_PARAMS,
    KB,
    Arguments,
    Method,
    RpcError,
    is_name,
    refuse,
)
from bittern.engine.session import Session
from bittern.engine.store import Tally
from bittern.engine.torrent import State
from bittern.engine.uploads import QUEUE_LIMIT

RPC_VERSION: Final = 18
RPC_VERSION_MINIMUM: Final = 14
RPC_SEMVER: Final = "6.0.0"
SPOKEN_VERSION: Final = "4.1.0"
"""The Transmission whose RPC that is. Sonarr and others look here whether it is new enough for them."""

ROOM_WORDS: Final = ("KB", "MB", "GB", "TB")


class SessionCalls:
    """What holds for all torrents."""

    def __init__(self, session: Session, daemon: Daemon, folders: RpcFolders, session_id: str) -> None:
        self._session = session
        self._daemon = daemon
        self._folders = folders
        self._session_id = session_id
        self._began = time.monotonic()

    def methods(self) -> dict[str, Method]:
        """By their names in snake_case."""
        return {
            "session_get": self._session_get,
            "session_set": self._session_set,
            "session_stats": self._session_stats,
            "session_close": refuse("bittern is stopped by whoever started it: systemctl stop bittern"),
            "free_space": self._free_space,
            "port_test": refuse("bittern asks no service on the internet whether its port is open"),
            "blocklist_update": refuse("bittern has no blocklist"),
            "group_get": self._group_get,
            "group_set": refuse("bittern has no bandwidth groups"),
        }

    async def _session_get(self, arguments: Arguments) -> Arguments:
        everything = self._facts()
        wanted = arguments.get("fields")
        chosen = {snake(one) for one in wanted if is_name(one)} if isinstance(wanted, list) else None
        if chosen is None or "download_dir_free_space" in chosen:
            # a folder that is not there yet has none that could be told
            with contextlib.suppress(RpcError):
                everything["download-dir-free-space"] = (await self._free_space({}))["size-bytes"]
        if chosen is not None:
            return {key: value for key, value in everything.items() if snake(key) in chosen}
        return everything

    def _facts(self) -> Arguments:
        settings = self._session.settings
        incomplete = self._daemon.incomplete_folder
        return {
            **limits_told(self._daemon.limits()),
            "blocklist-enabled": False,
            "blocklist-size": 0,
            "blocklist-url": "",
            "cache-size-mb": settings.piece_memory >> 20,
            "config-dir": self._daemon.state_folder,
            "default-trackers": "",
            "dht-enabled": settings.dht,
            "download-dir": self._daemon.data_folders[0],
            "download-dir-free-space": -1,
            "encryption": "tolerated",
            "incomplete-dir": incomplete or self._daemon.data_folders[0],
            "incomplete-dir-enabled": bool(incomplete),
            "lpd-enabled": settings.lsd,
            "peer-port": self._daemon.port,
            "peer-port-random-on-start": False,
            "pex-enabled": settings.pex,
            "port-forwarding-enabled": False,
            "rename-partial-files": False,
            "reqq": QUEUE_LIMIT,
            "rpc-version": RPC_VERSION,
            "rpc-version-minimum": RPC_VERSION_MINIMUM,
            "rpc-version-semver": RPC_SEMVER,
            "script-torrent-added-enabled": False,
            "script-torrent-added-filename": "",
            "script-torrent-done-enabled": False,
            "script-torrent-done-filename": "",
            "script-torrent-done-seeding-enabled": False,
            "script-torrent-done-seeding-filename": "",
            "session-id": self._session_id,
            "start-added-torrents": True,
            "tcp-enabled": True,
            "trash-original-torrent-files": False,
            "units": {
                "speed-units": [f"{word}/s" for word in ROOM_WORDS],
                "speed-bytes": KB,
                "size-units": list(ROOM_WORDS),
                "size-bytes": KB,
                "memory-units": ["KiB", "MiB", "GiB", "TiB"],
                "memory-bytes": 1024,
            },
            "utp-enabled": False,
            "version": f"{SPOKEN_VERSION} (bittern {self._daemon.version})",
        }

    async def _session_set(self, arguments: Arguments) -> Arguments:
        """Limits hold until somebody says otherwise; of the rest, what is so already may be said."""
        changes, rest = limits_asked(arguments, snake)
        now = {snake(key): value for key, value in self._facts().items()}
        for key, value in rest.items():
            if key not in now:
                raise RpcError(f"bittern has no {key}", INVALID_PARAMS)
            if now[key] != value:
                raise RpcError(f"{key} is set in bittern's configuration file")
        if changes:
            await self._daemon.set_limits(changes)
        return {}

    async def _session_stats(self, arguments: Arguments) -> Arguments:
        session = self._session
        counts = session.counts()
        torrents = session.torrents.values()
        return {
            "activeTorrentCount": sum(torrent.reachable for torrent in torrents),
            "pausedTorrentCount": sum(torrent.state is State.STOPPED for torrent in torrents),
            "torrentCount": counts.torrents,
            "downloadSpeed": round(counts.download_rate),
            "uploadSpeed": round(counts.upload_rate),
            "current-stats": _stats(session.totals.of_this_run(), time.monotonic() - self._began),
            "cumulative-stats": _stats(session.totals.altogether(), session.seeding.run_s()),
        }

    async def _free_space(self, arguments: Arguments) -> Arguments:
        path = arguments.get("path")
        folder = await self._folders.wanted(path)
        try:
            found = await self._folders.ask(lambda: os.statvfs(folder))
        except OSError as error:
            raise RpcError(error.strerror or str(error)) from error
        size = found.f_frsize
        return {
            "path": path or folder,
            "size-bytes": found.f_bavail * size,
            "total_size": found.f_blocks * size,
        }

    async def _group_get(self, arguments: Arguments) -> Arguments:
        return {"group": []}


def _stats(tally: Tally, seconds: float) -> Arguments:
    return {
        "uploadedBytes": tally.uploaded_bytes,
        "downloadedBytes": tally.downloaded_bytes,
        "filesAdded": tally.files_added,
        "sessionCount": tally.runs,
        "secondsActive": round(seconds),
    }
