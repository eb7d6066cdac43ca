"""The native API: JSON over HTTP, below `/api/v1`, and the one table of what there is.

Answers are objects; a refusal is `{"error": {"code", "message"}}` with the status that fits. Torrents are named by
their info hash in hexadecimal digits, or the beginning of it.
"""

from typing import Annotated, Final

from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bittern.control import shapes
from bittern.control.answers import FAULTS, json_answer
from bittern.control.endpoints import EVENTS, Body, Endpoint, Parameter, routes
from bittern.control.looking import Looking
from bittern.control.metrics import CONTENT_TYPE
from bittern.control.openapi import described
from bittern.control.overall import DELIVERIES, DELIVERIES_AT_MOST, Overall
from bittern.control.page import page_routes
from bittern.control.ports import Daemon
from bittern.control.steering import Steering
from bittern.control.stream import Stream
from bittern.control.transmission import Rpc
from bittern.control.views import FIELDS
from bittern.engine.session import Session

TORRENT: Final = "/api/v1/torrents/{torrent}"

_FILE: Final = Annotated[str, Meta(min_length=1)]
_ABSOLUTE: Final = Annotated[str, Meta(pattern="^/")]
_USUAL: Final = Annotated[str, Meta(pattern="^(/|$)")]

SELECT: Final = Parameter(
    "select", str, "A name, a pattern such as debian-*, or the first digits of an info hash.", repeated=True
)
WANTED: Final = Parameter("fields", str, "What is told of each.", among=tuple(FIELDS))
_LABEL: Final = Annotated[str, Meta(max_length=255, pattern="^[^,]*$")]
LABEL: Final = Parameter("label", _LABEL, "A word of your own; there may be several.", repeated=True)
DOWNLOADS: Final = Parameter(
    "downloads", _USUAL, "A folder of the configuration, or one in it; empty: the usual one."
)
ONLY: Final = Parameter(
    "only", _FILE, "Fetch only these of its files: numbers, ranges, patterns.", repeated=True
)
SKIP: Final = Parameter("skip", _FILE, "Do not fetch these of its files.", repeated=True)
SEQUENTIAL: Final = Parameter("sequential", bool, "Fetch its pieces in their order.")
DATA: Final = Parameter("data", bool, "Delete the files that bittern made, too.")
FOLDER: Final = Parameter("folder", _ABSOLUTE, "A folder of the configuration, or one in it.", required=True)
LOOK: Final = Parameter("look", bool, "Its files lie there already.")
DELIVERY_STATE: Final = Parameter("state", shapes.DeliveryState, "Only those.")
LIMIT: Final = Parameter(
    "limit", Annotated[int, Meta(ge=0, le=DELIVERIES_AT_MOST)], f"At most so many; {DELIVERIES} without."
)
OF_TORRENT: Final = Parameter(
    "torrent", Annotated[str, Meta(max_length=40)], "What is about the torrents whose info hashes begin so."
)

TORRENT_FILE: Final = Body(
    "A magnet link, or a .torrent.",
    shapes.MagnetLink,
    ("application/x-bittorrent", "application/octet-stream"),
)


class Api:
    """The table, and the application that serves it."""

    def __init__(self, session: Session, daemon: Daemon, stream: Stream) -> None:
        self._looking = Looking(session, daemon, stream)
        self._steering = Steering(session, daemon)
        self._overall = Overall(session, daemon, stream)
        self._rpc = Rpc(session, daemon)
        self._version = daemon.version
        self._description = b""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of the native API."""
        look, steer, overall = self._looking, self._steering, self._overall
        return (
            Endpoint("GET", "/healthz", look.health, shapes.Alive),
            Endpoint("GET", "/readyz", look.ready, shapes.Ready, also=(503,)),
            Endpoint("GET", "/metrics", look.metrics, CONTENT_TYPE),
            Endpoint("GET", "/api/v1/openapi.json", self._describe, dict),
            Endpoint("GET", "/api/v1/session", look.session, shapes.SessionView),
            Endpoint(
                "GET",
                "/api/v1/torrents",
                look.list_torrents,
                shapes.Torrents,
                query=(SELECT, WANTED),
                also=(404,),
            ),
            Endpoint(
                "POST",
                "/api/v1/torrents",
                steer.add,
                shapes.Added,
                query=(LABEL, DOWNLOADS, ONLY, SKIP, SEQUENTIAL),
                body=TORRENT_FILE,
                also=(413, 507),
                new=True,
            ),
            Endpoint("GET", TORRENT, look.show, shapes.TorrentView),
            Endpoint("DELETE", TORRENT, steer.remove, shapes.Removed, query=(DATA,), also=(507,)),
            Endpoint("GET", f"{TORRENT}/files", look.files, shapes.Files, also=(409,)),
            Endpoint(
                "PATCH",
                f"{TORRENT}/files",
                steer.choose,
                shapes.Named,
                body=Body("Which are wanted, and how soon.", shapes.FileChoice),
                also=(413, 507),
            ),
            Endpoint("GET", f"{TORRENT}/peers", look.peers, shapes.Peers),
            Endpoint("GET", f"{TORRENT}/trackers", look.trackers, shapes.Trackers),
            Endpoint(
                "PATCH",
                f"{TORRENT}/trackers",
                steer.retier,
                shapes.Trackers,
                body=Body("All of them anew, or some more or fewer.", shapes.TrackersChange),
                also=(413, 507),
            ),
            Endpoint("POST", f"{TORRENT}/recheck", steer.recheck, shapes.Named, also=(409,)),
            Endpoint("POST", f"{TORRENT}/reannounce", steer.reannounce, shapes.Named),
            Endpoint("POST", f"{TORRENT}/pause", steer.pause, shapes.Named, also=(507,)),
            Endpoint("POST", f"{TORRENT}/resume", steer.resume, shapes.Named, also=(507,)),
            Endpoint("GET", f"{TORRENT}/limits", look.limits, shapes.LimitsView),
            Endpoint(
                "PATCH",
                f"{TORRENT}/limits",
                steer.limit,
                shapes.LimitsView,
                body=Body("What is to be otherwise.", shapes.LimitsChange),
                also=(413, 507),
            ),
            Endpoint(
                "PUT",
                f"{TORRENT}/labels",
                steer.set_labels,
                shapes.Labelled,
                body=Body("All of them.", shapes.Labels),
                also=(413, 507),
            ),
            Endpoint("GET", f"{TORRENT}/explain", look.explain, shapes.ExplainView),
            Endpoint("POST", f"{TORRENT}/move", steer.move, shapes.Moved, query=(FOLDER, LOOK), also=(409,)),
            Endpoint("GET", f"{TORRENT}/pieces", look.pieces, shapes.PiecesView),
            Endpoint("GET", "/api/v1/limits", overall.limits, shapes.CommonLimitsView),
            Endpoint(
                "PATCH",
                "/api/v1/limits",
                overall.limit,
                shapes.CommonLimitsView,
                body=Body("What is to be otherwise.", shapes.CommonLimits),
                also=(413, 507),
            ),
            Endpoint(
                "POST",
                "/api/v1/queue",
                overall.line_up,
                shapes.Places,
                body=Body("Which, and where to.", shapes.QueueMove),
                also=(404, 413, 507),
            ),
            Endpoint(
                "GET",
                "/api/v1/deliveries",
                overall.deliveries,
                shapes.DeliveriesView,
                query=(DELIVERY_STATE, LIMIT),
                also=(507,),
            ),
            Endpoint(
                "POST",
                "/api/v1/deliveries/{delivery}/replay",
                overall.replay,
                shapes.Replayed,
                also=(404, 409, 507),
            ),
            Endpoint("GET", "/api/v1/log", overall.log, shapes.Happened, query=(OF_TORRENT,)),
            Endpoint(
                "POST",
                f"{TORRENT}/rename",
                steer.rename,
                shapes.Renamed,
                body=Body("What, and how it is to be called.", shapes.Renaming),
                also=(409, 413),
            ),
            Endpoint("GET", "/api/v1/events", look.events, EVENTS, also=(503,)),
            Endpoint("GET", "/api/v1/updates", look.updates, EVENTS, also=(503,)),
        )

    def app(self) -> Starlette:
        """The ASGI application."""
        rpc = self._rpc.answer
        return Starlette(
            routes=[
                *routes(self.endpoints()),
                *page_routes(),
                # transmission-remote asks with a slash behind it, others without
                Route("/transmission/rpc", rpc, methods=["GET", "POST"]),
                Route("/transmission/rpc/", rpc, methods=["GET", "POST"]),
            ],
            exception_handlers=FAULTS,
        )

    async def _describe(self, request: Request) -> Response:
        """This description: OpenAPI 3.1."""
        return json_answer(described(self.endpoints(), self._version))
