"""The web page: a few files, served as they are, with a policy that lets nothing else in."""

from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KINDS: Final = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    **dict.fromkeys(
        (
            "page.js",
            "words.js",
            "store.js",
            "list.js",
            "detail.js",
            "dialogs.js",
            "forms.js",
            "hooks.js",
            "log.js",
            "pieces.js",
        ),
        "text/javascript; charset=utf-8",
    ),
}

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """`/` and what it needs. Reads the files: for a thread."""
    return [_route(name, files(__name__).joinpath(name).read_bytes(), kind) for name, kind in KINDS.items()]


def _route(name: str, body: bytes, kind: str) -> Route:
    async def answer(request: Request) -> Response:
        return Response(body, headers=HEADERS, media_type=kind)

    return Route("/" if name == "index.html" else f"/{name}", answer)
