"""What an endpoint of the native API is: one declared table of them is what is served and what is described."""

import http
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bittern.control.answers import Refused

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

EVENTS: Final = "text/event-stream"


class Parameter(NamedTuple):
    """Of the query. `kind` is a type of its values; one that is not `repeated` is there once."""

    name: str
    kind: Any
    says: str
    repeated: bool = False
    required: bool = False
    among: tuple[str, ...] = ()
    """One or several of these words, with commas between."""


class Body(NamedTuple):
    """What a request brings: JSON of a type of `shapes.py`; or where there are `kinds`, text of it, or such bytes."""

    says: str
    shape: Any
    kinds: tuple[str, ...] = ()
    """Of bytes that are taken as well; none where it has to be JSON."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`answer` is a type of `shapes.py`, or the kind of text that is answered. The first line of the handler's
    description is the endpoint's.
    """

    method: Method
    path: str
    handler: Handler
    answer: Any
    query: tuple[Parameter, ...] = ()
    body: Body | None = None
    also: tuple[int, ...] = ()
    """Statuses of refusals beside those that any request may meet."""
    new: bool = False
    """Is what is made answered with 201?"""

    @property
    def says(self) -> str:
        """In one line."""
        return (self.handler.__doc__ or "").partition("\n")[0]


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """One for each path, so that a method which it has not is told of those that it has."""
    by_path: defaultdict[str, dict[str, Endpoint]] = defaultdict(dict)
    for one in endpoints:
        by_path[one.path][one.method] = one
    return [_route(path, methods) for path, methods in by_path.items()]


def _route(path: str, methods: dict[str, Endpoint]) -> Route:
    async def answer(request: Request) -> Response:
        looks = request.method == "HEAD"
        endpoint = methods["GET" if looks else request.method]
        _judge_query(request, endpoint.query)
        if looks and endpoint.answer == EVENTS:
            return Response(media_type=EVENTS)  # there is no end to wait for
        return await endpoint.handler(request)

    return Route(path, answer, methods=list(methods))


def _judge_query(request: Request, known: tuple[Parameter, ...]) -> None:
    """A parameter with a slip in its name would be without effect, and nobody would know."""
    told = request.query_params
    by_name = {one.name: one for one in known}
    for name in told:
        if name not in by_name:
            there = f"there are {', '.join(by_name)}" if by_name else "there are none"
            raise Refused(
                http.HTTPStatus.BAD_REQUEST, "bad-parameter", f"no parameter {name!r} here; {there}"
            )
        if not by_name[name].repeated and len(told.getlist(name)) > 1:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-parameter", f"{name!r} is there more than once")
