"""The HTTP client against trackers that mean no good; over real sockets."""

import contextlib
import errno
import logging
import os
import re
import ssl
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import replace

import h11
import pytest
import trio

from bittern.errors import TrackerError
from bittern.net.answer import CHUNKS_AT_MOST, HEADS_AT_MOST
from bittern.net.by_httpx import ByHttpx
from bittern.net.http import REDIRECTS_AT_MOST, HttpClient, Unreachable, shown
from bittern.net.plain_http import headers, plain_target, rest_of_request
from bittern.net.scope import DialScope
from tests.fakes.processes import free_port
from tests.fakes.tracker import (
    BOMB,
    ENDLESS,
    GARBAGE,
    HANG_UP,
    NOT_HTTP,
    SILENCE,
    Asked,
    Reply,
    Tracker,
    redirect,
    serve,
    zipped,
)
from tests.fakes.udp_tracker import PaperNames

LIMIT = 64 * 1024
SECRET = "f00dfacefeedbeef"


@pytest.fixture(autouse=True, params=["plain", pytest.param("httpx", marks=pytest.mark.proof)])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of asking give the same answers."""
    names = PaperNames() if request.param == "plain" else None
    monkeypatch.setattr(f"{__name__}.new_client", lambda: HttpClient(names=names))
    return str(request.param)


def new_client() -> HttpClient:
    """As the test's `kind` says."""
    raise NotImplementedError


async def against(tracker: Tracker, body: Callable[[HttpClient], Awaitable[None]]) -> None:
    """Runs `body` with a client while the tracker serves."""
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, tracker)
        async with new_client() as http:
            await body(http)
        nursery.cancel_scope.cancel()


def connections_of(tracker: Tracker) -> set[object]:
    """Those that something is asked over from now on."""
    answer, found = tracker.answer, set[object]()

    def counted(asked: Asked) -> Reply:
        found.add(trio.lowlevel.current_task())
        return answer(asked)

    tracker.answer = counted  # type: ignore[method-assign]  # spying in place
    return found


async def got(tracker: Tracker, path: str = f"?passkey={SECRET}", deadline_s: float = 60.0) -> bytes:
    found: list[bytes] = []

    async def ask(http: HttpClient) -> None:
        response = await http.get(tracker.url + path, max_bytes=LIMIT, deadline_s=deadline_s)
        assert response.status == 200
        found.append(response.body)

    await against(tracker, ask)
    return found[0]


async def refused(
    *script: Reply | Callable[[Asked], Reply], path: str = "", deadline_s: float = 60.0
) -> TrackerError:
    tracker = Tracker()
    tracker.script.extend(script)
    caught: list[TrackerError] = []

    async def ask(http: HttpClient) -> None:
        with pytest.raises(TrackerError) as one:
            await http.get(f"{tracker.url}{path}?passkey={SECRET}", max_bytes=LIMIT, deadline_s=deadline_s)
        caught.append(one.value)

    await against(tracker, ask)
    assert SECRET not in repr(caught[0]) + str(caught[0].__cause__)
    assert caught[0].__suppress_context__ or caught[0].__context__ is None, "a traceback would show the URL"
    return caught[0]


async def test_what_is_asked_goes_over_the_wire_as_it_is() -> None:
    tracker = Tracker()
    tracker.always = Reply(b"hello")
    assert await got(tracker, "?info_hash=%00%FF%20abc~-_.&x=%2B") == b"hello"
    [asked] = tracker.asked
    assert asked.target == "/announce?info_hash=%00%FF%20abc~-_.&x=%2B"
    assert asked.headers["user-agent"].startswith("bittern/")
    assert asked.headers["accept-encoding"] == "gzip"
    assert "cookie" not in asked.headers


async def test_gzip() -> None:
    tracker = Tracker()
    tracker.always = zipped(b"d8:intervali900ee")
    assert await got(tracker) == b"d8:intervali900ee"


async def test_a_body_up_to_the_limit() -> None:
    tracker = Tracker()
    tracker.script.extend([Reply(bytes(LIMIT)), zipped(bytes(LIMIT))])

    async def ask(http: HttpClient) -> None:
        for _ in range(2):
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == bytes(LIMIT)

    await against(tracker, ask)


@pytest.mark.parametrize("whole", [Reply(bytes(11)), zipped(bytes(11))])
async def test_an_answer_that_comes_whole_has_the_same_limit(whole: Reply) -> None:
    tracker = Tracker()
    tracker.script.append(whole)

    async def ask(http: HttpClient) -> None:
        with pytest.raises(TrackerError, match="answered more than"):
            await http.get(tracker.url, max_bytes=10)

    await against(tracker, ask)


@pytest.mark.parametrize(("host", "port"), [("t.example", 80), ("t.example", 8080), ("2001:db8::1", 6969)])
def test_a_request_reads_as_h11_would_put_it_down(host: str, port: int) -> None:
    http = h11.Connection(h11.CLIENT)
    whole = http.send(h11.Request(method="GET", target="/a?b=c", headers=headers(host, port)))
    assert b"GET /a?b=c" + rest_of_request(host, port) == whole + http.send(h11.EndOfMessage())


async def test_an_endless_body_ends() -> None:
    assert str(await refused(ENDLESS)) == "answered more than 64 KiB"


async def test_one_byte_too_much() -> None:
    assert "more than" in str(await refused(Reply(bytes(LIMIT + 1))))
    assert "more than" in str(await refused(zipped(bytes(LIMIT + 1))))


async def test_a_bomb_does_not_go_off() -> None:
    assert len(BOMB.body) < 100_000, "64 MiB in a nutshell"
    tracemalloc.start()
    try:
        error = await refused(BOMB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "more than" in str(error)
    assert peak < 8 << 20


async def test_what_follows_a_zipped_body_counts_too() -> None:
    endless = replace(zipped(b"x"), endless=b"x" * 65536)
    assert "more than" in str(await refused(endless))


async def test_a_body_in_very_small_pieces_is_not_read_to_its_end() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = Reply(raw=chunked + b"1\r\na\r\n" * (CHUNKS_AT_MOST + 1) + b"0\r\n\r\n")
    assert "small pieces" in str(await refused(whole))


CHUNKED = [
    Reply(b"1\r\nx\r\n0\r\n\r\n", headers={"Transfer-Encoding": "chunked"}, bare=True) for _ in range(2)
]
INTERIM, ANSWER = b"HTTP/1.1 100 Wait\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"


@pytest.mark.parametrize(
    ("interim", "said"),
    [
        (INTERIM, "interim answers"),
        (b"HTTP/1.1 103 Early\n\n", "interim answers"),
        (b"HTTP/1.1 102 Still\r\nX: " + b"x" * 50_000 + b"\r\n\r\n", "interim answers|KiB and no answer"),
        (b"HTTP/1.1 102 Still\r\nX: " + b"\r\n\tx" * 50_000, "not HTTP|KiB and no answer"),
    ],
)
async def test_interim_answers_without_end_are_not_listened_to(interim: bytes, said: str) -> None:
    tracker = Tracker()
    tracker.always = Reply(raw=b"", endless=interim * (65536 // len(interim) + 1))

    async def ask(http: HttpClient) -> None:
        with pytest.raises(Unreachable, match=said):
            await http.get(tracker.url, max_bytes=LIMIT, deadline_s=60.0)
        with pytest.raises(Unreachable, match=said):
            await http.post(tracker.url, b"{}", headers={}, max_bytes=LIMIT, deadline_s=60.0)

    await against(tracker, ask)


async def test_a_few_interim_answers_are_none_of_our_business() -> None:
    tracker = Tracker()
    tracker.always = Reply(raw=INTERIM * HEADS_AT_MOST + ANSWER)

    async def ask(http: HttpClient) -> None:
        for _ in range(2):
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == b"1"
            answer = await http.post(tracker.url, b"{}", headers={}, max_bytes=LIMIT, deadline_s=60.0)
            assert answer.body == b"1"

    await against(tracker, ask)


async def test_the_heads_of_many_answers_over_one_connection_are_not_added_up() -> None:
    tracker = Tracker()
    tracker.always = Reply(b"1")

    async def ask(http: HttpClient) -> None:
        for _ in range(HEADS_AT_MOST + 2):
            answer = await http.post(tracker.url, b"{}", headers={}, max_bytes=LIMIT, deadline_s=60.0)
            assert answer.body == b"1"

    await against(tracker, ask)


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(kind: str) -> None:
    if kind == "httpx":
        return  # which would take it
    tracker = Tracker()
    unasked = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    tracker.script.extend([Reply(b"1", after=unasked), Reply(b"2")])
    connections = connections_of(tracker)

    async def ask(http: HttpClient) -> None:
        for number in (b"1", b"2"):
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == number

    await against(tracker, ask)
    assert len(connections) == 2


@pytest.mark.parametrize(
    "reply",
    [zipped(b"x" * 1000, cut=20), Reply(b"not zipped", headers={"Content-Encoding": "gzip"})],
)
async def test_broken_gzip(reply: Reply) -> None:
    assert str(await refused(reply)) == "answered with a broken encoding"


async def test_an_encoding_that_nobody_asked_for() -> None:
    assert "unknown encoding" in str(await refused(Reply(b"x", headers={"Content-Encoding": "br"})))


async def test_silence_has_a_deadline() -> None:
    error = await refused(SILENCE, deadline_s=0.2)
    assert isinstance(error, Unreachable)
    assert str(error) == "no answer within 0.2 s"


async def test_a_trickle_has_a_deadline() -> None:
    # each byte comes within the read time-out, the whole answer never does
    error = await refused(Reply(endless=b"x", pause_s=0.05), deadline_s=0.5)
    assert isinstance(error, Unreachable)


async def test_a_redirect_is_followed() -> None:
    tracker = Tracker()
    tracker.script.extend([redirect("/other?x=%00"), Reply(b"there")])
    assert await got(tracker) == b"there"
    assert [one.target for one in tracker.asked] == [f"/announce?passkey={SECRET}", "/other?x=%00"]


async def test_redirects_up_to_the_limit() -> None:
    tracker = Tracker()
    tracker.script.extend([*[redirect("/again")] * REDIRECTS_AT_MOST, Reply(b"there")])
    assert await got(tracker) == b"there"


async def test_redirects_in_a_loop_end() -> None:
    tracker = Tracker()
    tracker.always = redirect("/again")

    async def ask(http: HttpClient) -> None:
        with pytest.raises(TrackerError, match="redirects in a loop"):
            await http.get(tracker.url, max_bytes=LIMIT)

    await against(tracker, ask)
    assert len(tracker.asked) == REDIRECTS_AT_MOST + 1


async def test_a_connection_with_an_unread_redirect_is_not_used_again(kind: str) -> None:
    tracker = Tracker()
    tracker.script.extend([Reply(b"1"), replace(redirect("/next"), body=b"unread"), Reply(b"2"), Reply(b"3")])
    connections = connections_of(tracker)

    async def ask(http: HttpClient) -> None:
        for number in (b"1", b"2", b"3"):
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == number

    await against(tracker, ask)
    assert len(connections) == (3 if kind == "plain" else 2)


async def test_a_redirects_body_is_not_read() -> None:
    tracker = Tracker()
    tracker.script.extend([redirect("/next", endless=bytes(65536)), Reply(b"there")])
    assert await got(tracker) == b"there"


@pytest.mark.parametrize("to", ["ftp://192.0.2.1/x", "file:///etc/passwd", "http://", "http://[::1", "\x00"])
async def test_redirects_to_where_we_do_not_go(to: str) -> None:
    assert re.search("that cannot be used|not HTTP|cannot be reached", str(await refused(redirect(to))))


async def test_what_is_not_http() -> None:
    assert "not HTTP" in str(await refused(NOT_HTTP))
    assert "not HTTP" in str(await refused(HANG_UP))


async def test_endless_headers_end() -> None:
    error = await refused(Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"X-Long: ", endless=b"x" * 65536))
    assert re.search("not HTTP|KiB and no answer", str(error))


async def test_other_answers_are_the_callers_business() -> None:
    tracker = Tracker()
    tracker.script.extend([GARBAGE, Reply(b"gone", status=404)])

    async def ask(http: HttpClient) -> None:
        assert (await http.get(tracker.url, max_bytes=LIMIT)).body == GARBAGE.body
        missing = await http.get(tracker.url, max_bytes=LIMIT)
        assert (missing.status, missing.body) == (404, b"gone")

    await against(tracker, ask)


async def test_connections_are_kept() -> None:
    tracker = Tracker()
    # plain, and as h11 alone reads them
    tracker.script.extend([Reply(b"x"), Reply(b"x", status=404), Reply(b"x"), *CHUNKED, Reply(b"x")])
    connections = connections_of(tracker)

    async def ask(http: HttpClient) -> None:
        while tracker.script:
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == b"x"

    await against(tracker, ask)
    assert len(connections) == 1
    assert len(tracker.asked) == 6


async def test_an_answer_in_two_parts() -> None:
    """As it comes over a real network."""
    tracker = Tracker()
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

    async def ask(http: HttpClient) -> None:
        for cut in range(1, len(whole)):
            tracker.script.append(Reply(raw=whole[:cut], later=whole[cut:]))
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == b"hello"

    await against(tracker, ask)


async def test_cookies_are_neither_kept_nor_sent() -> None:
    tracker = Tracker()
    tracker.always = Reply(b"x", headers={"Set-Cookie": "id=1; Path=/"})

    async def ask(http: HttpClient) -> None:
        await http.get(tracker.url, max_bytes=LIMIT)
        await http.get(tracker.url, max_bytes=LIMIT)

    await against(tracker, ask)
    assert ["cookie" in one.headers for one in tracker.asked] == [False, False]


async def test_a_proxy_from_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    tracker = Tracker()
    tracker.always = Reply(b"x")
    assert await got(tracker) == b"x"


async def test_a_closed_port_cannot_be_reached() -> None:
    async with new_client() as http:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await http.get(f"http://127.0.0.1:{free_port()}/{SECRET}", max_bytes=LIMIT)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///announce",
        "http://[::1/announce",
        "http://127.0.0.1:99999/announce",
        "http://127.0.0.1:port/announce",
        "http://" + "a" * 70 + ".example/announce",
        "http://host\x00name/announce",
        "http://a b/announce",
        "gopher://127.0.0.1/",
        "",
        "no url at all",
        "http://127.0.0.1/\n",
        "http://\udcff/",
    ],
)
async def test_urls_from_the_wild_are_a_trackers_error(url: str) -> None:
    async with new_client() as http:
        with pytest.raises(TrackerError):
            await http.get(url, max_bytes=LIMIT, deadline_s=1.0)


async def test_nothing_is_logged_above_debug_that_shows_a_url(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker()
    tracker.always = Reply(b"x")
    with caplog.at_level(logging.WARNING):
        await got(tracker)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"http://t.example/{SECRET}/announce", "http://t.example"),
        (f"https://t.example:8443/announce?passkey={SECRET}", "https://t.example:8443"),
        (f"http://user:{SECRET}@t.example:80/announce", "http://t.example:80"),
        ("http://[2001:db8::1]:6969/announce", "http://[2001:db8::1]:6969"),
        ("udp://t.example:1337", "udp://t.example:1337"),
        (f"http:///{SECRET}", "an unreadable URL"),
        (f"http://t.example:port/{SECRET}", "an unreadable URL"),
        (f"http://[::1/{SECRET}", "an unreadable URL"),
        (SECRET, "an unreadable URL"),
        ("", "an unreadable URL"),
    ],
)
def test_shown_without_secrets(url: str, name: str) -> None:
    assert shown(url) == name


async def test_of_several_addresses_the_one_that_answers_is_asked_and_kept_in_mind() -> None:
    tracker = Tracker()
    tracker.always = Reply(b"x")
    names = PaperNames({"t.example": ("127.0.0.2", "::1", "127.0.0.1")})
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, tracker)
        url = tracker.url.replace("127.0.0.1", "t.example")
        async with HttpClient(names=names, local_address="0.0.0.0") as http:
            assert (await http.get(url, max_bytes=LIMIT)).body == b"x"
            nobody = await trio.open_tcp_listeners(int(url.split(":")[2].partition("/")[0]), host="127.0.0.2")
            # were it asked first again, it would be silent
            assert (await http.get(url, max_bytes=LIMIT, deadline_s=60.0)).body == b"x"
            await nobody[0].aclose()
        async with HttpClient(names=names, local_address="::") as http:
            with pytest.raises(Unreachable, match="cannot be reached"):
                await http.get(url, max_bytes=LIMIT)
        names.names["t.example"] = ("127.0.0.1",)
        async with HttpClient(names=names, local_address="::") as http:
            with pytest.raises(Unreachable, match="no address of that family"):
                await http.get(url, max_bytes=LIMIT)
        nursery.cancel_scope.cancel()


async def test_strangers_urls_ask_nothing_of_this_machine_but_announces() -> None:
    tracker = Tracker()
    tracker.always = Reply(b"x")
    names = PaperNames({"t.example": ("127.0.0.1",)})
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, tracker)
        url = tracker.url.replace("127.0.0.1", "t.example")
        base = url.removesuffix("/announce")
        async with HttpClient(names=names, wary=True) as http:
            for path in ("/announce?a", "/announce.php", "/scrape"):
                assert (await http.get(base + path, max_bytes=LIMIT)).body == b"x"
            for path in (
                "/",
                "/admin?announce",
                "/announce/../admin",
                "/announce/%2e%2e/admin",
                "//announce",
            ):
                with pytest.raises(TrackerError, match="only /announce"):
                    await http.get(base + path, max_bytes=LIMIT)
            tracker.script.append(redirect(f"{base}/admin"))
            with pytest.raises(TrackerError, match="only /announce"):
                await http.get(url, max_bytes=LIMIT)
            assert len(tracker.asked) == 4
            for near in ("::1", "0.0.0.0", "169.254.169.254", "fe80::1", "::ffff:127.0.0.1"):
                names.names["t.example"] = (near,)
                with pytest.raises(TrackerError, match="only /announce"):
                    await http.get(f"{base}/admin", max_bytes=LIMIT)
        nursery.cancel_scope.cancel()


async def test_posts_stay_on_this_host_too() -> None:
    async with HttpClient(scope=DialScope(this_host=True)) as http:
        with pytest.raises(TrackerError, match="dial_scope"):
            await http.post("http://192.0.2.1/", b"", headers={}, max_bytes=LIMIT, deadline_s=60.0)


async def test_tls_is_asked_for_the_hosts_name_and_not_for_its_address() -> None:
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _, name, __: asked.append(name)

    async def greet(stream: trio.SocketStream) -> None:
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await trio.SSLStream(stream, context, server_side=True).do_handshake()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, greet, [listener])
        names = PaperNames({"t.example": ("127.0.0.1",)})
        async with HttpClient(names=names) as http:
            with pytest.raises(TrackerError):
                await http.get(f"https://t.example:{listener.socket.getsockname()[1]}/", max_bytes=LIMIT)
        nursery.cancel_scope.cancel()
    assert asked == ["t.example"]


async def test_a_kept_connection_that_is_closed_as_we_ask_is_no_trouble(kind: str) -> None:
    if kind == "httpx":
        return  # which tells of that
    tracker = Tracker()
    tracker.script.extend([Reply(b"1"), HANG_UP, Reply(b"2"), HANG_UP, HANG_UP])

    async def ask(http: HttpClient) -> None:
        for number in (b"1", b"2"):
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == number
        with pytest.raises(Unreachable):
            # the new connection too
            await http.get(tracker.url, max_bytes=LIMIT)

    await against(tracker, ask)
    assert len(tracker.asked) == 5


async def test_a_host_that_closes_each_connection_is_asked_over_new_ones() -> None:
    tracker = Tracker()
    tracker.always = Reply(b"1", headers={"Connection": "close"})
    connections = connections_of(tracker)

    async def ask(http: HttpClient) -> None:
        for _ in range(3):
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == b"1"

    await against(tracker, ask)
    assert len(connections) == 3


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://tracker.example/announce?a=%00%fF~", ("tracker.example", 80, "/announce?a=%00%fF~")),
        ("http://Tracker.example:6969/a", ("tracker.example", 6969, "/a")),
        ("http://[2001:db8::1]:80/a", ("2001:db8::1", 80, "/a")),
        ("https://tracker.example/a", None),
        ("http://user:word@tracker.example/a", None),
        ("http://tracker.example", None),
        ("http://tracker.example/a b", None),
        ("http://tracker.example/a\r\nX: y", None),
        ("http://tracker.example/a\n", None),
        ("http://tracker.example/a%0", None),
        ("http://tracker.example/../a", None),
        ("http://tracker.example/a#b", None),
        ("http://tracker.example:0/a", None),
        ("http://tracker.example:65536/a", None),
        ("http://träcker.example/a", None),
    ],
)
def test_urls_that_need_nothing_but_to_be_sent(url: str, target: tuple[str, int, str] | None) -> None:
    assert plain_target(url) == target


async def test_where_httpx_cannot_be_read_it_is_asked_for_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is imported with the first request that needs it, when there may be no descriptor left."""
    make, full = HttpClient._make, [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

    def made(client: HttpClient) -> ByHttpx:
        if full:
            raise full.pop()
        return make(client)

    monkeypatch.setattr(HttpClient, "_make", made)
    async with HttpClient() as http:
        with pytest.raises(Unreachable, match="Too many open files"):
            await http.get("https://127.0.0.1:1/", max_bytes=LIMIT)
        with pytest.raises(Unreachable, match="cannot be reached"):
            await http.get("https://127.0.0.1:1/", max_bytes=LIMIT)
