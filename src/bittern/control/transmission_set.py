"""`torrent-set` of Transmission's RPC."""

from typing import Final

from bittern.control.choosing import RPC_LISTS, of_listed, rpc_choice
from bittern.control.files import Files
from bittern.control.tracker_changes import RPC_WORDS, rpc_tracker_change
from bittern.control.transmission_ids import Ids
from bittern.control.transmission_limits import NAMES, limit_changes
from bittern.control.transmission_words import INVALID_PARAMS, Arguments, RpcError
from bittern.control.turns import Turns
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.policy.labels import checked
from bittern.policy.selection import Choice

KNOWN: Final = frozenset(
    {"ids", "sequential_download", "queue_position", "labels", *NAMES, *RPC_LISTS, *RPC_WORDS}
)


class Setting:
    """All that may be set of single torrents."""

    def __init__(self, session: Session, files: Files, ids: Ids) -> None:
        self._session = session
        self._files = files
        self._ids = ids

    async def set(self, arguments: Arguments) -> Arguments:
        """All of it is looked at before any of it holds."""
        limits, choice = limit_changes(arguments), rpc_choice(arguments)
        sequential = arguments.get("sequential_download")
        if sequential is not None and sequential not in (True, False):
            raise RpcError("sequential_download is true or false", INVALID_PARAMS)
        trackers = rpc_tracker_change(arguments)
        labels = _labels(arguments.get("labels"))
        for key, value in arguments.items():
            if key not in KNOWN and (key, value) != ("group", ""):
                raise RpcError(f"bittern does not set {key} of a single torrent")
        place = _place(arguments.get("queue_position"))
        others = not (choice.empty and sequential is None and trackers is None and labels is None)
        chosen = self._ids.named(arguments) if others or place is not None else []
        if place is not None:
            self._ids.few(arguments)
        turns = Turns()
        for torrent in self._ids.meant(arguments) if limits else []:
            if await self._ids.is_ours(torrent, turns):
                await self._session.limit(torrent.info_hash, **limits)
        for torrent in chosen if others else []:
            if await self._ids.is_ours(torrent, turns):
                await self._select(torrent, choice, None if sequential is None else bool(sequential))
            if trackers is not None and await self._ids.is_ours(torrent, turns):
                await self._session.set_trackers(torrent.info_hash, trackers)
            if labels is not None and await self._ids.is_ours(torrent, turns):
                await self._session.set_labels(torrent.info_hash, labels)
        if place is not None:
            for offset, torrent in enumerate(chosen):
                if await self._ids.is_ours(torrent, turns):
                    await self._session.queue.move_to(torrent, place + offset)
        return {}

    async def _select(self, torrent: Torrent, choice: Choice, sequential: bool | None) -> None:
        if choice.empty and sequential is None:
            return
        if not choice.empty and torrent.record.state != "metadata":
            choice = await self._files.look(
                torrent, lambda opened, have, whole: of_listed(choice, opened.pads, len(opened.names))
            )
        await self._session.select(torrent.info_hash, choice, sequential=sequential)


def _labels(value: object) -> tuple[str, ...] | None:
    try:
        return None if value is None else checked(value)
    except ValueError as error:
        raise RpcError(str(error), INVALID_PARAMS) from None


def _place(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RpcError("queue_position is a place, from 0 on", INVALID_PARAMS)
    return value
