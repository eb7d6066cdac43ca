"""How the native API answers: JSON, and of a refusal a code and one line."""

import http
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bittern.control.body import read_body


class Refused(Exception):
    """Answered with a status and one line."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def answer(value: Any, status: int = http.HTTPStatus.OK) -> Response:
    """That value."""
    return json_answer(json.dumps(value), status)


def json_answer(text: str, status: int = http.HTTPStatus.OK) -> Response:
    """JSON that is ready."""
    # escapes carry names that are not UTF-8, so the text is ASCII
    return Response(text, status, {"Cache-Control": "no-store"}, media_type="application/json")


def flag(request: Request, name: str) -> bool:
    """A parameter that is true or false."""
    written = request.query_params.get(name, "false")
    if written not in {"true", "false"}:
        raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-flag", f"{name} is true or false")
    return written == "true"


async def whole_body(request: Request, at_most: int) -> bytes:
    """What a request brings."""
    body = await read_body(request, at_most)
    if body is None:
        status = http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        raise Refused(status, "too-large", f"more than {at_most} bytes")
    return body


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return answer({"error": {"code": error.code, "message": str(error)}}, error.status)


async def _http_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = http.HTTPStatus(error.status_code)
    told = {"error": {"code": code.name.lower().replace("_", "-"), "message": code.phrase}}
    response = answer(told, code)
    response.headers.update(error.headers or {})
    return response


async def _bug(request: Request, error: Exception) -> Response:
    """The server tells of it as well."""
    message = "a bug in bittern: its log says more"
    return answer({"error": {"code": "bug", "message": message}}, http.HTTPStatus.INTERNAL_SERVER_ERROR)


FAULTS = {Refused: _refusal, HTTPException: _http_refusal, Exception: _bug}
"""Which error is answered by what."""
