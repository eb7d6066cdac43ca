"""What the native API lets somebody do who may steer."""

import http
import json
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from bittern.control.answers import Refused, answer, flag, whole_body
from bittern.control.choosing import api_choice
from bittern.control.explaining import limits_view
from bittern.control.folders import Folders
from bittern.control.meant import meant
from bittern.control.ports import Daemon
from bittern.control.tracker_changes import TRACKERS_AT_MOST_BYTES, tracker_change
from bittern.control.views import torrent_view, tracker_views
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.errors import FileSelectionError, MagnetError, MetainfoError, StorageError, TrackerListError
from bittern.policy.add_terms import AddTerms
from bittern.policy.labels import as_text, checked
from bittern.proto.metainfo import MAX_METAINFO_BYTES
from bittern.terms import InfoHash

MAGNET: Final = b"magnet:"

NAMES_AT_MOST_BYTES: Final = 64 * 1024
LABELS_BYTES_AT_MOST: Final = 64 * 1024
LIMITS_BYTES_AT_MOST: Final = 4096
CHOICE_AT_MOST_BYTES: Final = 1024 * 1024


class Steering:
    """The handlers; what they answer with is durable."""

    def __init__(self, session: Session, daemon: Daemon) -> None:
        self._session = session
        self._daemon = daemon
        self._folders = Folders()

    async def add(self, request: Request) -> Response:
        """Adds a torrent, as the watch folder does."""
        named = request.query_params.getlist("label")
        label = as_text(_labels([one for one in named if one])) if named else None
        wanted = request.query_params.get("downloads", "")
        folder = await self._folder(wanted)
        blob = await whole_body(request, MAX_METAINFO_BYTES)
        try:
            asked = request.query_params
            terms = AddTerms(
                folder,
                folder_said=bool(wanted),
                incomplete=self._daemon.incomplete_folder,
                label=label,
                selection=api_choice({key: asked.getlist(key) for key in ("only", "skip") if key in asked}),
                sequential=flag(request, "sequential") if "sequential" in asked else None,
            )
            if blob[: len(MAGNET)].lower() == MAGNET:
                added = await self._session.add_magnet(blob.decode("utf-8", "replace"), terms)
            else:
                added = await self._session.add(blob, terms)
        except (MetainfoError, MagnetError) as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-torrent", str(error)) from error
        except FileSelectionError as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-selection", str(error)) from error
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        status = http.HTTPStatus.CREATED if added.kind == "added" else http.HTTPStatus.OK
        told = {"info_hash": added.info_hash.hex(), "name": added.name, "result": added.kind}
        return answer(told, status)

    async def choose(self, request: Request) -> Response:
        """Chooses among its files: which are wanted, and how soon."""
        torrent = meant(self._session, request)
        try:
            told = json.loads(await whole_body(request, CHOICE_AT_MOST_BYTES))
            if not isinstance(told, dict) or not isinstance(told.get("sequential", False), bool):
                raise FileSelectionError("a JSON object with lists of files by what is to become of them")
            sequential = told.pop("sequential", None)
            await self._session.select(torrent.info_hash, api_choice(told), sequential=sequential)
        except (FileSelectionError, ValueError, RecursionError) as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-selection", str(error)) from error
        except StorageError as error:
            raise self._not_stored(torrent, error) from error
        return answer(torrent_view(self._session, torrent, ("info_hash", "name", "state")))

    async def _folder(self, wanted: str) -> str:
        """Only folders of the configuration, and what lies in them: others are the administrator's to name."""
        allowed = self._daemon.data_folders
        folder = await self._folders.within(wanted, allowed) if wanted else allowed[0]
        if folder is None:
            raise Refused(
                http.HTTPStatus.FORBIDDEN,
                "foreign-folder",
                f"downloads must lie in {' or '.join(allowed)}",
            )
        return folder

    async def remove(self, request: Request) -> Response:
        """Forgets it; its files stay unless `data` is true."""
        torrent = meant(self._session, request)
        try:
            await self._session.remove(torrent.info_hash, reason="asked for", with_data=flag(request, "data"))
        except StorageError as error:
            raise self._not_stored(torrent, error) from error
        return answer({"info_hash": torrent.info_hash.hex(), "name": torrent.record.name})

    async def recheck(self, request: Request) -> Response:
        """Hashes all its data again."""
        torrent = meant(self._session, request)
        if not self._session.recheck(torrent):
            raise Refused(
                http.HTTPStatus.CONFLICT,
                "not-now",
                "its files are being moved, or not known yet; try again later",
            )
        return answer(torrent_view(self._session, torrent, ("info_hash", "name", "state")))

    async def reannounce(self, request: Request) -> Response:
        """Asks trackers and the DHT for peers."""
        torrent = meant(self._session, request)
        self._session.reannounce(torrent)
        return answer(torrent_view(self._session, torrent, ("info_hash", "name", "state")))

    async def pause(self, request: Request) -> Response:
        """Stops it until it is resumed, also over restarts."""
        return await self._lasting(meant(self._session, request), self._session.pause)

    async def resume(self, request: Request) -> Response:
        """Lets it go on."""
        return await self._lasting(meant(self._session, request), self._session.resume)

    async def move(self, request: Request) -> Response:
        """Moves its files to another folder."""
        torrent = meant(self._session, request)
        wanted = request.query_params.get("folder", "")
        if not wanted.startswith("/"):
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-folder", "folder is an absolute path")
        folder = await self._folder(wanted)
        try:
            await self._session.move(torrent.info_hash, folder, only_look=flag(request, "look"))
        except StorageError as error:
            raise Refused(http.HTTPStatus.CONFLICT, "not-moved", str(error)) from error
        return answer(torrent_view(self._session, torrent, ("info_hash", "name", "state", "moving_to")))

    async def rename(self, request: Request) -> Response:
        """Gives a file or folder of it, or all its data, another name, on disk too."""
        torrent = meant(self._session, request)
        try:
            told = json.loads(await whole_body(request, NAMES_AT_MOST_BYTES))
        except (ValueError, RecursionError):
            told = None
        match told:
            case {"path": str(path), "name": str(name)} if len(told) == 2:
                pass
            case _:
                message = "the body is a JSON object with the texts `path` and `name`"
                raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-name", message)
        try:
            await self._session.rename(torrent.info_hash, path, name)
        except FileSelectionError as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-name", str(error)) from error
        except StorageError as error:
            raise Refused(http.HTTPStatus.CONFLICT, "not-renamed", str(error)) from error
        return answer(torrent_view(self._session, torrent, ("info_hash", "name", "path")))

    async def limit(self, request: Request) -> Response:
        """Changes some of its own limits."""
        torrent = meant(self._session, request)
        try:
            changes = json.loads(await whole_body(request, LIMITS_BYTES_AT_MOST))
        except (ValueError, RecursionError):
            changes = None
        if not isinstance(changes, dict):
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-limits", "the body is a JSON object of limits")
        try:
            await self._session.limit(torrent.info_hash, **changes)
        except ValueError as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-limits", str(error)) from error
        except StorageError as error:
            raise self._not_stored(torrent, error) from error
        return answer(limits_view(torrent))

    async def retier(self, request: Request) -> Response:
        """Other trackers: all of them anew (`tiers`), or some more or fewer (`add`, `remove`)."""
        torrent = meant(self._session, request)
        try:
            change = tracker_change(await whole_body(request, TRACKERS_AT_MOST_BYTES))
            await self._session.set_trackers(torrent.info_hash, change)
        except TrackerListError as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-trackers", str(error)) from error
        except StorageError as error:
            raise self._not_stored(torrent, error) from error
        return answer({"trackers": tracker_views(torrent)})

    async def set_labels(self, request: Request) -> Response:
        """Its labels, all of them."""
        torrent = meant(self._session, request)
        try:
            labels = _labels(json.loads(await whole_body(request, LABELS_BYTES_AT_MOST)))
            await self._session.set_labels(torrent.info_hash, labels)
        except (ValueError, RecursionError) as error:
            raise Refused(
                http.HTTPStatus.BAD_REQUEST, "bad-label", "the body is a JSON list of labels"
            ) from error
        except StorageError as error:
            raise self._not_stored(torrent, error) from error
        return answer(torrent_view(self._session, torrent, ("info_hash", "name", "labels")))

    async def _lasting(self, torrent: Torrent, change: Callable[[InfoHash], Awaitable[object]]) -> Response:
        """What holds after a restart too, from when it is answered."""
        try:
            await change(torrent.info_hash)
        except StorageError as error:
            raise self._not_stored(torrent, error) from error
        return answer(torrent_view(self._session, torrent, ("info_hash", "name", "state")))

    def _not_stored(self, torrent: Torrent, error: StorageError) -> Refused:
        if self._session.torrents.get(torrent.info_hash) is not torrent:
            return Refused(http.HTTPStatus.NOT_FOUND, "no-torrent", "it was removed meanwhile")
        return Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error))


def _labels(said: object) -> tuple[str, ...]:
    try:
        return checked(said)
    except ValueError as error:
        raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-label", str(error)) from error
