"""The `torrent-*` and `queue-*` calls of Transmission's RPC."""

import base64
import binascii
import contextlib
from collections.abc import Callable
from typing import Final

from bittern.control.choosing import RPC_LISTS, of_listed, rpc_choice
from bittern.control.files import Files
from bittern.control.ports import Daemon
from bittern.control.transmission_fields import (
    BY_SNAKE,
    FIELDS,
    NO_CONTENTS,
    OF_FILES,
    Seen,
    contents_of,
    snake,
)
from bittern.control.transmission_folders import RpcFolders
from bittern.control.transmission_ids import RECENT, Ids
from bittern.control.transmission_limits import NAMES, limit_changes
from bittern.control.transmission_set import Setting
from bittern.control.transmission_words import (
    INVALID_PARAMS,
    Arguments,
    Method,
    RpcError,
    flag,
    is_name,
    refuse_unknown,
)
from bittern.control.turns import Turns
from bittern.engine.adding import AddResult
from bittern.engine.session import Session
from bittern.engine.torrent import State, Torrent
from bittern.errors import MetainfoError, StorageError
from bittern.net.http import shown
from bittern.policy.add_terms import AddTerms
from bittern.policy.labels import as_text
from bittern.policy.labels import checked as checked_labels
from bittern.policy.ordering import Step
from bittern.policy.selection import Choice
from bittern.proto.metainfo import parse_metainfo

NAMES_AT_MOST: Final = 1000


class TorrentCalls:
    """Looks at torrents, adds, removes and steers them."""

    def __init__(self, session: Session, daemon: Daemon, files: Files, folders: RpcFolders) -> None:
        self._session = session
        self._daemon = daemon
        self._files = files
        self._folders = folders
        self._ids = Ids(session)
        self._setting = Setting(session, files, self._ids)

    def methods(self) -> dict[str, Method]:
        """By their names in snake_case."""
        return {
            "torrent_get": self._torrent_get,
            "torrent_add": self._torrent_add,
            "torrent_remove": self._torrent_remove,
            "torrent_start": self._torrent_start,
            "torrent_start_now": self._torrent_start_now,
            "torrent_stop": self._torrent_stop,
            "torrent_verify": self._torrent_verify,
            "torrent_reannounce": self._torrent_reannounce,
            "torrent_set": self._setting.set,
            "torrent_set_location": self._torrent_set_location,
            "torrent_rename_path": self._torrent_rename_path,
            "queue_move_top": self._queue_move("top"),
            "queue_move_up": self._queue_move("up"),
            "queue_move_down": self._queue_move("down"),
            "queue_move_bottom": self._queue_move("bottom"),
        }

    # -- looking and adding --------------------------------------------------------------------------------

    async def get_discreetly(self, arguments: Arguments) -> Arguments:
        """For who may only look: of URLs, which may hold passkeys, no more than whose they are."""
        return await self._torrent_get(arguments, shown)

    async def _torrent_get(self, arguments: Arguments, url: Callable[[str], str] = str) -> Arguments:
        wanted = arguments.get("fields")
        if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            raise RpcError("no fields specified", INVALID_PARAMS)
        # an unknown one is left out: clients ask for what some version has
        names = {
            one: BY_SNAKE[snake(one)]
            for one in wanted[:NAMES_AT_MOST]
            if is_name(one) and snake(one) in BY_SNAKE
        }
        told: Arguments = {}
        if arguments.get("ids") in RECENT:
            torrents, told["removed"] = await self._ids.recent()
        else:
            torrents = self._ids.meant(arguments)
        rows, turns = [], Turns()
        for torrent in torrents:
            await turns.next()
            contents = NO_CONTENTS
            if not OF_FILES.isdisjoint(names.values()):
                # of a magnet link nobody has told them yet; or its .torrent is gone, and it is in error
                with contextlib.suppress(StorageError):
                    contents = await self._files.look(torrent, contents_of)
            seen = Seen(self._session, torrent, contents, url)
            rows.append({one: FIELDS[name](seen) for one, name in names.items()})
        if arguments.get("format") == "table":
            told["torrents"] = [list(names), *([row[one] for one in names] for row in rows)]
        else:
            told["torrents"] = rows
        return told

    async def _torrent_add(self, arguments: Arguments) -> Arguments:
        named, blob = arguments.get("filename"), b""
        link = named if isinstance(named, str) else ""
        if arguments.get("metainfo") is not None:
            try:
                blob = base64.b64decode(arguments["metainfo"], validate=False)
            except (binascii.Error, ValueError, TypeError):
                raise RpcError("metainfo is no base64", INVALID_PARAMS) from None
        elif not link.lower().startswith("magnet:"):
            raise RpcError(
                "bittern takes magnet links, and the .torrent itself as metainfo: let your client read it"
            )
        labels = arguments.get("labels")
        try:
            label = None if labels is None else as_text(checked_labels(labels or []))
        except ValueError as error:
            raise RpcError(str(error), INVALID_PARAMS) from None
        refuse_unknown(
            {key: value for key, value in arguments.items() if value not in ([], None, 0, "")},
            {
                "metainfo",
                "labels",
                "download_dir",
                "paused",
                "cookies",
                "filename",
                "sequential_download",
                *RPC_LISTS,
                *NAMES,
            },
        )
        selection = rpc_choice({key: arguments[key] for key in RPC_LISTS if arguments.get(key)})
        if blob and not selection.empty:
            selection = await self._files.work(lambda: _of_listed_in(selection, blob))
        folder = await self._folders.wanted(arguments.get("download_dir"))
        sequential = arguments.get("sequential_download")
        terms = AddTerms(
            folder,
            folder_said=bool(arguments.get("download_dir")),
            incomplete=self._daemon.incomplete_folder,
            label=label,
            limits=limit_changes(arguments),
            selection=selection,
            sequential=None if sequential is None else sequential in (True, 1),
        )
        added = await (self._session.add(blob, terms) if blob else self._session.add_magnet(link, terms))
        if arguments.get("paused") in (True, 1) and added.kind == "added":
            await self._session.pause(added.info_hash)
        key = "torrent-added" if added.kind == "added" else "torrent-duplicate"
        return {key: self._brief(added)}

    def _brief(self, added: AddResult) -> Arguments:
        torrent = self._session.torrents.get(added.info_hash)
        number = torrent.record.number if torrent is not None else 0
        return {"id": number, "name": added.name, "hashString": added.info_hash.hex()}

    # -- steering ------------------------------------------------------------------------------------------

    async def _torrent_remove(self, arguments: Arguments) -> Arguments:
        with_data = arguments.get("delete_local_data", False) in (True, 1)
        turns = Turns()
        for torrent in self._ids.named(arguments):
            if not await self._ids.is_ours(torrent, turns):
                continue
            await self._session.remove(torrent.info_hash, reason="asked for", with_data=with_data)
        return {}

    async def _torrent_start(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._ids.meant(arguments):
            if not await self._ids.is_ours(torrent, turns):
                continue
            if _can_be_started(torrent):
                await self._session.resume(torrent.info_hash)
        return {}

    async def _torrent_start_now(self, arguments: Arguments) -> Arguments:
        """It waits for no turn, until it is stopped by this protocol."""
        turns = Turns()
        for torrent in self._ids.meant(arguments):
            if not await self._ids.is_ours(torrent, turns):
                continue
            await self._session.set_place(torrent.info_hash, forced=True)
            if _can_be_started(torrent):
                await self._session.resume(torrent.info_hash)
        return {}

    async def _torrent_stop(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._ids.meant(arguments):
            if not await self._ids.is_ours(torrent, turns):
                continue
            await self._session.pause(torrent.info_hash)
            if torrent.record.forced:
                await self._session.set_place(torrent.info_hash, forced=False)
        return {}

    async def _torrent_verify(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._ids.meant(arguments):
            if not await self._ids.is_ours(torrent, turns):
                continue
            self._session.recheck(torrent)
        return {}

    async def _torrent_reannounce(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._ids.meant(arguments):
            if not await self._ids.is_ours(torrent, turns):
                continue
            self._session.reannounce(torrent)
        return {}

    async def _torrent_set_location(self, arguments: Arguments) -> Arguments:
        """`move`: else its files lie there already."""
        refuse_unknown(arguments, {"ids", "location", "move"})
        location, move = arguments.get("location"), flag("move", arguments.get("move") or False)
        if not isinstance(location, str) or not location.startswith("/"):
            raise RpcError("location is an absolute path", INVALID_PARAMS)
        folder, turns = await self._folders.wanted(location), Turns()
        for torrent in self._ids.named(arguments):
            if await self._ids.is_ours(torrent, turns):
                await self._session.move(torrent.info_hash, folder, only_look=not move)
        return {}

    async def _torrent_rename_path(self, arguments: Arguments) -> Arguments:
        refuse_unknown(arguments, {"ids", "path", "name"})
        chosen, path, name = self._ids.named(arguments), arguments.get("path"), arguments.get("name")
        if len(chosen) != 1:
            raise RpcError("exactly one torrent is renamed: ids", INVALID_PARAMS)
        if not isinstance(path, str) or not isinstance(name, str):
            raise RpcError("path and name are texts", INVALID_PARAMS)
        await self._session.rename(chosen[0].info_hash, path, name)
        return {"path": path, "name": name, "id": chosen[0].record.number}

    def _queue_move(self, step: Step) -> Method:
        async def move(arguments: Arguments) -> Arguments:
            if len(self._ids.meant(arguments)) < len(self._session.torrents):
                await self._session.queue.step(self._ids.few(arguments), step)
            # all of them together stand where they stood
            return {}

        return move


def _can_be_started(torrent: Torrent) -> bool:
    """One in error, which clients are shown as stopped, is tried at once."""
    return bool(torrent.record.stopped) or torrent.state is State.ERROR


def _of_listed_in(choice: Choice, blob: bytes) -> Choice:
    """In a thread. Of what is no torrent somebody else will say so."""
    try:
        files = parse_metainfo(blob).files
    except MetainfoError:
        return choice
    return of_listed(choice, frozenset(index for index, file in enumerate(files) if file.pad), len(files))
