"""Requests that no client makes: each costs its sender a refusal, and others nothing."""

import http
import json
import re
from pathlib import Path

import httpx
import pytest
import trio

from bittern.control.server import CONNECTIONS_AT_MOST
from bittern.control.stream import LISTENERS_AT_MOST
from tests.fakes.engine import Engine, running
from tests.fakes.torrents import make_torrent
from tests.fakes.web import over_tcp

IDLE_STREAMS = 200
PATIENCE_S = 60
HOST = b"Host: localhost\r\n"
PASSWD = b"root:"

ODD = [
    # out of the folder of the page
    b"GET /../../../../etc/passwd HTTP/1.1\r\n" + HOST,
    b"GET /%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST,
    b"GET //etc/passwd HTTP/1.1\r\n" + HOST,
    b"GET /style.css/../../../../../../../etc/passwd HTTP/1.1\r\n" + HOST,
    b"GET /..\\..\\etc\\passwd HTTP/1.1\r\n" + HOST,
    b"GET /api/v1/torrents/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\n" + HOST,
    b"GET /api/v1/torrents/../../../etc/passwd/files HTTP/1.1\r\n" + HOST,
    b"GET /api/v1/torrents/%00 HTTP/1.1\r\n" + HOST,
    b"GET /api/v1/torrents/%ff%fe HTTP/1.1\r\n" + HOST,
    # where one request ends and another begins
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 30_000,
    b"GET /api/v1/session HTTP/1.1\r\n" + HOST + b"X : y\r\n",
    b"GET /api/v1/session HTTP/1.1\r\n" + HOST + b"X\r\n",
    b"GET /api/v1/session HTTP/1.1\r\n" + HOST + b"X: \x00\r\n",
    b"GET /api/v1/session HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 200_000 + b"\r\n",
    b"GET /api/v1/session HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 50_000,
    b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST,
    b"GET /api/v1/session\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    b"\r\n\r\n\r\n\x00\xff\r\n",
    # whose request it is
    b"GET /api/v1/session HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
    b"GET /api/v1/session HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n",
    b"GET http://localhost/api/v1/session HTTP/1.1\r\nHost: evil.example\r\n",
    b"GET /api/v1/session HTTP/1.1\r\nHost: localhost@evil.example\r\n",
    b"GET /api/v1/session HTTP/1.1\r\nHost: localhost.evil.example\r\n",
    b"GET /api/v1/session HTTP/1.1\r\nHost:\r\n",
    b"GET /api/v1/session HTTP/1.1\r\n",
    b"GET /api/v1/session HTTP/1.0\r\n",
    b"CONNECT evil.example:80 HTTP/1.1\r\n" + HOST,
    b"TRACE /api/v1/session HTTP/1.1\r\n" + HOST,
    b"OPTIONS * HTTP/1.1\r\n" + HOST,
    b"GET /api/v1/events HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    b"DELETE /api/v1/torrents/00 HTTP/1.1\r\n" + HOST + b"Origin: null\r\n",
    b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Origin: http://localhost.evil.example\r\nContent-Length: 0\r\n",
]  # fmt: skip


async def answered(port: int, told: bytes) -> bytes:
    """All that comes until they hang up, which they do within the time that a head may take."""
    heard = b""
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                await stream.send_all(told)
                while more := await stream.receive_some():
                    heard += more
                    if (ends := heard.find(b"\r\n\r\n")) >= 0:
                        length = re.search(rb"content-length: (\d+)", heard[:ends].lower())
                        if length and len(heard) >= ends + 4 + int(length[1]):
                            break
            except trio.BrokenResourceError:
                pass
    return heard


async def test_odd_requests_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a connection whose head or body never ends is closed after that time
    monkeypatch.setattr("hypercorn.config.Config.keep_alive_timeout", 0.2)
    monkeypatch.setattr("bittern.control.body.PATIENCE_S", 0.2)
    async with running(tmp_path) as engine, over_tcp(engine, access="full") as client:

        async def tell(odd: bytes) -> None:
            heard = await answered(client.base_url.port or 0, odd + b"\r\n")
            assert PASSWD not in heard, odd[:100]
            if heard:
                status = int(re.match(rb"HTTP/1\.[01] (\d{3})", heard)[1])
                assert 400 <= status < 500 or status == http.HTTPStatus.NOT_IMPLEMENTED, (odd[:100], heard)

        async with trio.open_nursery() as nursery:
            for odd in ODD:
                nursery.start_soon(tell, odd)
        monkeypatch.setattr("hypercorn.config.Config.keep_alive_timeout", PATIENCE_S)
        assert (await client.get("/api/v1/session")).json()["torrents"] == 0


async def test_names_are_looked_at_in_the_other_http_too(tmp_path: Path) -> None:
    """HTTP/2 without TLS, which Hypercorn speaks with whoever begins with it."""
    async with (
        running(tmp_path) as engine,
        over_tcp(engine, access="full") as client,
        httpx.AsyncClient(
            base_url=client.base_url, http1=False, http2=True, trust_env=False, timeout=PATIENCE_S
        ) as other,
    ):
        answer = await other.get("/api/v1/session")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        bent = await other.get("/api/v1/session", headers={"Host": "evil.example"})
        assert bent.status_code == 421
        foreign = await other.delete("/api/v1/torrents/00", headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403


async def test_one_request_does_not_hide_in_another(tmp_path: Path) -> None:
    """What a proxy in front and we would part differently."""
    made = make_torrent("one.bin")
    inner = f"DELETE /api/v1/torrents/{made.info_hash.hex()} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    head = b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST
    async with running(tmp_path) as engine, over_tcp(engine, access="full") as client:
        await engine.add(made)
        for told in (
            head + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (len(inner) + 5),
            head + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(inner),
            head + b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n",
        ):
            heard = await answered(client.base_url.port or 0, told + inner)
            assert not heard or heard.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), heard
        assert made.info_hash in engine.session.torrents


BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"0",
    b'"text"',
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"max_peers":' + b"9" * 4000 + b"}",
    b'{"download_rate": NaN}',
    b'{"download_rate": 1e999}',
    b'{"download_rate": true}',
    b'{"max_peers": 1.5}',
    b'{"sequential": "yes"}',
    b'{"only": {"0": 1}}',
    b'{"only": [[0]]}',
    b'{"only": [-1]}',
    b'{"tiers": [["file:///etc/passwd"]]}',
    b'{"tiers": "http://tracker.example"}',
    b'{"add": null}',
    b'{"__class__": {}, "constructor": {}}',
]


@pytest.mark.proof
async def test_bodies_that_cannot_be(tmp_path: Path) -> None:
    made = make_torrent("one.bin")
    async with running(tmp_path) as engine, over_tcp(engine, access="full") as client:
        await engine.add(made)
        where = f"/api/v1/torrents/{made.info_hash.hex()}"
        before = (await client.get(f"{where}/limits")).json()
        for body in BODIES:
            for method, path in (
                ("PATCH", "/limits"),
                ("PATCH", "/files"),
                ("PATCH", "/trackers"),
                ("PUT", "/labels"),
            ):
                if (path, body) == ("/labels", b"[]"):
                    continue
                answer = await client.request(method, f"{where}{path}", content=body)
                assert answer.status_code in {400, 413}, (path, body[:50], answer.text)
                assert len(answer.content) < 2000
            answer = await client.post("/api/v1/torrents", content=body)
            assert answer.status_code == 400
        assert (await client.get(f"{where}/limits")).json() == before
        assert (await client.get(where)).json()["trackers"] == []


async def test_who_asks_for_torrents_that_vanish(tmp_path: Path) -> None:
    """Of each kind of request one, while it is removed."""
    many = [make_torrent(f"{number}.bin", size=1000 + number) for number in range(3)]
    asked = (
        ("GET", "", None), ("GET", "/files", None), ("GET", "/peers", None), ("GET", "/trackers", None),
        ("GET", "/limits", None), ("GET", "/explain", None), ("PATCH", "/files", {"take": [0]}),
        ("PATCH", "/limits", {"max_peers": 3}), ("PATCH", "/trackers", {"add": ["http://127.0.0.1:9/a"]}),
        ("PUT", "/labels", ["a"]), ("POST", "/recheck", None), ("POST", "/reannounce", None),
        ("POST", "/pause", None), ("POST", "/resume", None), ("DELETE", "", None),
    )  # fmt: skip
    async with running(tmp_path) as engine, over_tcp(engine, access="full") as client:

        async def ask(method: str, path: str, body: object) -> None:
            answer = await client.request(method, path, content=json.dumps(body) if body is not None else b"")
            assert answer.status_code in {200, 404, 409}, (method, path, answer.text)

        for made in many:
            await engine.add(made)
        for made in many:
            where = f"/api/v1/torrents/{made.info_hash.hex()}"
            async with trio.open_nursery() as nursery:
                for method, path, body in asked:
                    nursery.start_soon(ask, method, f"{where}{path}", body)
                nursery.start_soon(ask, "DELETE", f"{where}", None)
            for method, path, body in asked:
                answer = await client.request(method, f"{where}{path}", json=body)
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no-torrent")
        assert not engine.session.torrents


async def idle_stream(engine: Engine, port: int) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    heard = b""
    while b": listening" not in heard:
        heard += await stream.receive_some()
    return stream


@pytest.mark.proof
async def test_two_hundred_idle_streams_are_nobody_elses_affair(tmp_path: Path) -> None:
    assert IDLE_STREAMS < LISTENERS_AT_MOST < CONNECTIONS_AT_MOST
    async with running(tmp_path) as engine, over_tcp(engine, access="full") as client:
        streams = [await idle_stream(engine, client.base_url.port or 0) for _ in range(IDLE_STREAMS)]
        made = make_torrent("one.bin")
        assert (await client.post("/api/v1/torrents", content=made.blob)).status_code == 201
        assert len((await client.get("/api/v1/torrents")).json()["torrents"]) == 1
        for stream in streams:
            await trio.aclose_forcefully(stream)
        # their places are free again
        for _ in range(IDLE_STREAMS):
            await trio.aclose_forcefully(await idle_stream(engine, client.base_url.port or 0))


@pytest.mark.proof
async def test_whoever_is_slow_with_his_head_is_hung_up_on(tmp_path: Path) -> None:
    """As many as there is room for: they keep others out for the five seconds that a head may take, and no longer."""
    async with running(tmp_path) as engine, over_tcp(engine, access="full") as client:
        port = client.base_url.port or 0
        slow = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(CONNECTIONS_AT_MOST)]
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                async def drip(stream: trio.SocketStream) -> None:
                    try:
                        for letter in b"GET /api/v1/session HTTP/1.1\r\nX: " + b"y" * 1000:
                            await stream.send_all(bytes([letter]))
                            await trio.sleep(0.5)
                        pytest.fail("it was let go on for ever")
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        await trio.aclose_forcefully(stream)

                for stream in slow:
                    nursery.start_soon(drip, stream)
        assert (await client.get("/api/v1/session")).status_code == http.HTTPStatus.OK


async def test_whoever_is_slow_with_his_body_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bittern.control.body.PATIENCE_S", 0.2)
    head = b"POST /api/v1/torrents HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nd"
    async with running(tmp_path) as engine, over_tcp(engine, access="full") as client:
        assert (await answered(client.base_url.port or 0, head)).startswith(b"HTTP/1.1 408")
        assert (await client.get("/api/v1/session")).status_code == http.HTTPStatus.OK
