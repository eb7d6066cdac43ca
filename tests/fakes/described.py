"""Holds every answer of the native API in the tests against what its description says of it."""

import copy
import json
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import httpx
import jsonschema_rs
from starlette.routing import Route

from bittern.control.page import KINDS

OTHERS = {"/", *(f"/{name}" for name in KINDS), "/transmission/rpc", "/transmission/rpc/"}
"""What is served beside the native API."""


class Description:
    """An OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._strict = _strict(document)
        self._paths = {path: re.compile(re.sub(r"{\w+}", "[^/]+", path)) for path in document["paths"]}

    def undescribed(self, routes: Iterable[Route]) -> set[tuple[str, str]]:
        """What is served and not described."""
        served = {
            (method, one.path) for one in routes for method in one.methods or () if one.path not in OTHERS
        }
        told = {
            (method.upper(), path) for path, methods in self.document["paths"].items() for method in methods
        }
        return served - told - {("HEAD", path) for path in self.document["paths"]}

    def judge(self, method: str, path: str, status: int, kind: str, body: bytes) -> None:
        """AssertionError or ValidationError where that answer is not as it is described."""
        found = [one for one, pattern in self._paths.items() if pattern.fullmatch(path)]
        operation = self.document["paths"][found[0]].get(method.lower()) if found else None
        if operation is None:
            assert status in {400, 401, 403, 404, 405, 421, 429}, (method, path, status)
            schema: dict[str, Any] = {"$ref": "#/components/schemas/Refusal"}
        else:
            answer = operation["responses"].get(str(status))
            assert answer is not None, f"{status} is not said of {method} {path}"
            kind = kind.partition(";")[0]
            assert kind in answer["content"], f"{kind} is not said of {method} {path}"
            if kind != "application/json":
                return
            schema = answer["content"][kind]["schema"]
        _validator(json.dumps({**schema, "components": self._strict["components"]})).validate(
            json.loads(body)
        )

    async def heed(self, response: httpx.Response) -> None:
        """A hook for httpx."""
        path, method = response.request.url.path, response.request.method
        if (
            path in OTHERS
            or method == "HEAD"
            or response.headers["content-type"].startswith("text/event-stream")
        ):
            return
        await response.aread()
        self.judge(method, path, response.status_code, response.headers["content-type"], response.content)


@cache
def _validator(schema: str) -> Any:
    return jsonschema_rs.Draft202012Validator(json.loads(schema))


def _strict(document: dict[str, Any]) -> dict[str, Any]:
    """Who reads may be told more one day; here nothing is told that is not said."""
    strict = copy.deepcopy(document)
    for one in strict["components"]["schemas"].values():
        if "properties" in one:
            one["additionalProperties"] = False
    return strict
