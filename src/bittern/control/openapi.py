"""The native API's description in OpenAPI 3.1, made of its table and its shapes."""

import http
import json
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from bittern.control import shapes
from bittern.control.endpoints import Body, Endpoint, Parameter

REFERENCE: Final = "#/components/schemas/{name}"

TOLD: Final = """JSON over HTTP. Sizes are bytes, rates bytes per second, times seconds since 1970; `..._in_s` and \
`..._ago` count from now. A refusal has a code, which stays as it is, and a message in one line for people. Requests \
that name a foreign Host, or come from another site's page, are turned away; `web.access` says whether more than \
looking is let in over TCP."""

EVERYWHERE: Final = {
    400: "It cannot be meant so.",
    401: "A password is needed.",
    403: "Not from here, not without full access, or not in that folder.",
    408: "What it brings did not come in a minute.",
    421: "The Host is not one of ours.",
    429: "Too many wrong passwords: wait a minute.",
    500: "A bug in bittern, which its log tells of.",
}
"""What any request may be answered with."""

ELSEWHERE: Final = {
    404: "There is nothing of that name, or more than one.",
    409: "Not now, or not there; the message says why.",
    413: "That is too much.",
    503: "Too many listen already, or the engine stands still.",
    507: "The disk did not take it.",
}

IN_PATH: Final = {
    "torrent": (
        "Its info hash in hexadecimal digits, or as much of its beginning as no other has.",
        "^[0-9A-Fa-f]{1,40}$",
    ),
    "delivery": ("The id of a delivery.", "^[0-9A-Za-z-]{1,64}$"),
}
"""What is named in paths, and what it looks like."""

SOME_OF: Final = {"SomeOfTorrent": "TorrentView"}
"""Shapes that are another one with any of its fields left out."""


def described(endpoints: Iterable[Endpoint], version: str) -> str:
    """JSON."""
    return json.dumps(description(tuple(endpoints), version))


def description(endpoints: tuple[Endpoint, ...], version: str) -> dict[str, Any]:
    """The document."""
    named = [one.answer for one in endpoints if _is_shape(one.answer)]
    taken = [one.body.shape for one in endpoints if one.body is not None and _is_shape(one.body.shape)]
    _, parts = msgspec.json.schema_components([*named, *taken, shapes.Refusal], ref_template=REFERENCE)
    for some, whole in SOME_OF.items():
        parts[some] |= {"properties": parts[whole]["properties"], "required": []}
    for shape in taken:
        parts[shape.__name__]["additionalProperties"] = False  # what is not known is refused
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bittern", "version": version, "description": TOLD, "license": {"name": "MIT"}},
        "paths": paths,
        "security": [{}, {"password": []}],
        "components": {
            "schemas": parts,
            "securitySchemes": {
                "password": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "That of web.password_file; any user name will do. Not asked for on the socket.",
                }
            },
        },
    }


def _operation(one: Endpoint) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": f"{one.method.lower()}{re.sub(r'[^a-z0-9]+', '_', one.path).rstrip('_')}",
        "summary": one.says,
        "parameters": [_in_path(name) for name in re.findall(r"{(\w+)}", one.path)]
        + [_in_query(parameter) for parameter in one.query],
        "responses": _responses(one),
    }
    if one.body is not None:
        told["requestBody"] = _body(one.body)
    return told


def _in_path(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": IN_PATH[name][0],
        "schema": {"type": "string", "pattern": IN_PATH[name][1]},
    }


def _in_query(one: Parameter) -> dict[str, Any]:
    told = {"name": one.name, "in": "query", "required": one.required, "description": one.says}
    if one.among:
        schema = {"type": "array", "items": {"enum": list(one.among)}, "minItems": 1}
        return {**told, "style": "form", "explode": False, "schema": schema}
    schema = msgspec.json.schema(one.kind)
    return {**told, "schema": {"type": "array", "items": schema} if one.repeated else schema}


def _body(one: Body) -> dict[str, Any]:
    schema = _reference(one.shape) if _is_shape(one.shape) else msgspec.json.schema(one.shape)
    content = {"text/plain" if one.kinds else "application/json": _content(schema)}
    return {
        "description": one.says,
        "required": True,
        "content": content | {kind: {} for kind in one.kinds},
    }


def _responses(one: Endpoint) -> dict[str, Any]:
    if _is_shape(one.answer):
        content = {"application/json": _content(_reference(one.answer))}
    elif one.answer is dict:
        content = {"application/json": _content({"type": "object"})}
    else:
        content = {one.answer.partition(";")[0]: _content({"type": "string"})}
    told: dict[str, Any] = {
        "200": {"description": "It is so." if one.method == "GET" else "It is done.", "content": content}
    }
    if one.new:
        told["201"] = {"description": "It is made.", "content": content}
    refusals = EVERYWHERE | {status: ELSEWHERE[status] for status in one.also}
    if "{torrent}" in one.path:
        refusals[404] = ELSEWHERE[404]
    for status in sorted(refusals):
        answer = {
            "description": refusals[status],
            "content": {"application/json": _content(_reference(shapes.Refusal))},
        }
        told[str(int(http.HTTPStatus(status)))] = answer
    return told


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": schema} if schema else {}


def _is_shape(answer: Any) -> bool:
    return isinstance(answer, type) and answer is not dict


def _reference(shape: Any) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(name=shape.__name__)}
