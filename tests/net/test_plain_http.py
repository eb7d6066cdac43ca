"""Plain answers come the short way, and all others exactly as if it did not exist."""

import pytest
import trio

from bittern.errors import TrackerError
from bittern.net import plain_http
from bittern.net.http import HttpClient
from tests.fakes.tracker import BOMB, ENDLESS, Asked, Reply, Tracker, redirect, serve, zipped

LIMIT = 64 * 1024


async def outcome(http: HttpClient, url: str) -> object:
    try:
        found = await http.get(url, max_bytes=LIMIT, deadline_s=2.0)
    except TrackerError as error:
        return type(error), str(error)
    return found.status, found.body


async def both_ways(reply: Reply) -> list[object]:
    """What comes of it the usual way, and from a host that is known as plain."""
    found = []
    async with trio.open_nursery() as nursery:
        tracker = Tracker()
        tracker.always = reply
        await nursery.start(serve, tracker)
        for plain in (False, True):
            async with HttpClient() as http:
                if plain:
                    http._plain.found_plain(tracker.url)
                found.append(await outcome(http, tracker.url))
        nursery.cancel_scope.cancel()
    return found


REPLIES = {
    "plain": Reply(b"d8:intervali900ee"),
    "empty": Reply(b""),
    "to the limit": Reply(bytes(LIMIT)),
    "too much": Reply(bytes(LIMIT + 1)),
    "endless": ENDLESS,
    "zipped": zipped(b"d8:intervali900ee"),
    "a bomb": BOMB,
    "not found": Reply(b"no", status=404),
    "a broken server": Reply(b"", status=503),
    "redirects in a loop": redirect("/announce"),
    "not HTTP": Reply(raw=b"SSH-2.0-OpenSSH\r\n\r\n"),
    "nothing": Reply(raw=b""),
    "HTTP/1.0": Reply(raw=b"HTTP/1.0 200 OK\r\n\r\nhello"),
    "chunked": Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "both": Reply(
        raw=b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ),
    "closing": Reply(raw=b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"),
    "no length": Reply(raw=b"HTTP/1.1 200 OK\r\n\r\nhi"),
    "two lengths": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!"),
    "a length below zero": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi"),
    "cut": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi"),
    "a cut head": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le"),
    "a folded header": Reply(raw=b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi"),
    "100 first": Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    "endless headers": Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000),
}


@pytest.mark.parametrize("kind", REPLIES)
async def test_the_short_way_gives_what_the_long_one_does(kind: str) -> None:
    usual, short = await both_ways(REPLIES[kind])
    assert short == usual


async def test_the_second_question_goes_the_short_way_and_all_on_one_connection() -> None:
    tracker = Tracker()
    tracker.always = Reply(b"x")
    connections = set()
    answer = tracker.answer

    def counted(asked: Asked) -> Reply:
        connections.add(trio.lowlevel.current_task())
        return answer(asked)

    tracker.answer = counted  # type: ignore[method-assign]  # spying in place
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, tracker)
        async with HttpClient() as http:
            for number in range(5):
                url = f"{tracker.url}?info_hash=%00%FF&x=%2B{number}"
                assert (await http.get(url, max_bytes=LIMIT)).body == b"x"
        nursery.cancel_scope.cancel()
    assert [one.target for one in tracker.asked] == [
        f"/announce?info_hash=%00%FF&x=%2B{number}" for number in range(5)
    ]
    assert ["accept-encoding" in one.headers for one in tracker.asked] == [True, False, False, False, False]
    assert {one.headers["host"] for one in tracker.asked} == {tracker.url.split("/")[2]}
    assert all(one.headers["user-agent"].startswith("bittern/") for one in tracker.asked)
    assert len(connections) == 2


async def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    tracker = Tracker()
    tracker.script.extend([Reply(b"1"), Reply(b"2")])
    async with trio.open_nursery() as nursery, HttpClient() as http:
        async with trio.open_nursery() as first:
            url = await first.start(serve, tracker)
            http._plain.found_plain(url)
            assert (await http.get(url, max_bytes=LIMIT)).body == b"1"
            assert len(http._plain._kept) == 1
            first.cancel_scope.cancel()
        port = int(url.rpartition(":")[2].partition("/")[0])
        again = await nursery.start(serve, tracker, port)
        assert again == url
        assert (await http.get(url, max_bytes=LIMIT)).body == b"2"
        nursery.cancel_scope.cancel()


async def test_few_connections_are_kept_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    trackers = [Tracker() for _ in range(20)]
    async with trio.open_nursery() as nursery, HttpClient() as http:
        for tracker in trackers:
            tracker.always = Reply(b"x")
            await nursery.start(serve, tracker)
            http._plain.found_plain(tracker.url)
            await http.get(tracker.url, max_bytes=LIMIT)
        assert len(http._plain._kept) == 16
        monkeypatch.setattr(plain_http, "KEPT_FOR_S", 0.0)
        await http.get(trackers[0].url, max_bytes=LIMIT)
        assert len(http._plain._kept) <= 1
        nursery.cancel_scope.cancel()
