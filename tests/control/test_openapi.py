"""The native API is as it is described: every route, and (`fakes/described.py`) every answer in these tests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest
from starlette.routing import Route

from bittern.control import shapes
from bittern.control.api import Api
from bittern.control.stream import Stream
from bittern.control.views import FIELDS, session_view
from bittern.engine.torrent import State
from bittern.policy.limits import KINDS
from tests.fakes.control import TestDaemon, controlling
from tests.fakes.described import Description
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent


def references(value: Any) -> Iterator[str]:
    """All that are in there."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_every_route_is_described(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        answer = await control.client.get("/api/v1/openapi.json")
        document = answer.json()
        app = Api(engine.session, TestDaemon(engine), Stream()).app()
        described = Description(document)
        assert described.undescribed(one for one in app.routes if isinstance(one, Route)) == set()
        assert document["openapi"] == "3.1.0"
        operations = [one for methods in document["paths"].values() for one in methods.values()]
        assert len({one["operationId"] for one in operations}) == len(operations) >= 22
        assert all(one["summary"].endswith((".", "?")) for one in operations)
        schemas = document["components"]["schemas"]
        assert {one.rpartition("/")[2] for one in references(document)} <= set(schemas)
        for schema in schemas.values():
            jsonschema_rs.meta.validate(schema)
        assert schemas["SomeOfTorrent"]["properties"] == schemas["TorrentView"]["properties"]
        assert (await control.client.get("/api/v1/openapi.json")).content == answer.content


def test_shapes_are_what_is_told() -> None:
    """What the type checker cannot see, because it is told by the name of a field."""
    assert list(shapes.TorrentView.__annotations__) == list(FIELDS)
    assert set(get_args(shapes.State)) == {state.value for state in State}
    assert set(shapes.LimitsView.__annotations__) == set(shapes.LimitsChange.__annotations__) == set(KINDS)
    assert session_view.__annotations__["return"] is shapes.Counts


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/session?colour=red", "no parameter 'colour' here; there are none"),
        ("GET", "/torrents?field=name", "no parameter 'field' here; there are select, fields"),
        ("GET", "/torrents?fields=name&fields=state", "'fields' is there more than once"),
        ("DELETE", "/torrents/{}?data=true&data=false", "'data' is there more than once"),
        ("GET", "/log?torrent=" + "0" * 41, "an info hash has 40 digits"),
        ("DELETE", "/torrents/{}?with_data=true", "no parameter 'with_data' here; there are data"),
    ],
)
async def test_a_parameter_with_a_slip_in_it_is_refused(
    method: str, path: str, told: str, tmp_path: Path
) -> None:
    made = make_torrent("one.bin")
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(made)
        answer = await control.client.request(method, f"/api/v1{path.format(made.info_hash.hex())}")
        assert (answer.status_code, answer.json()["error"]) == (
            400,
            {"code": "bad-parameter", "message": told},
        )
        assert made.info_hash in engine.session.torrents


async def test_what_a_path_has_not_is_told_with_what_it_has(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        for path, allowed in (
            ("/api/v1/session", {"GET", "HEAD"}),
            ("/api/v1/torrents", {"GET", "HEAD", "POST"}),
            ("/api/v1/torrents/ab/limits", {"GET", "HEAD", "PATCH"}),
        ):
            answer = await control.client.put(path)
            assert answer.status_code == 405
            assert set(re.split(r",\s*", answer.headers["Allow"])) == allowed


async def test_the_head_of_a_stream_has_an_end(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        for path in ("/api/v1/events", "/api/v1/updates"):
            answer = await control.client.head(path)
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.content == b""
