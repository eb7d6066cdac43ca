"""What is around an answer: bounded in bytes, whatever the deadline."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from bittern.errors import TrackerError
from bittern.net.answer import CHUNKS_AT_MOST, FRAMING_AT_MOST_BYTES
from bittern.net.http import HttpClient
from tests.fakes.tracker import Asked, Reply, Tracker, serve
from tests.fakes.udp_tracker import PaperNames

LIMIT = 64 * 1024
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True, params=["plain", "httpx"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without names of ours httpx has all of it."""
    names = PaperNames() if request.param == "plain" else None
    monkeypatch.setattr(f"{__name__}.new_client", lambda: HttpClient(names=names))


def new_client() -> HttpClient:
    """As the test's `kind` says."""
    raise NotImplementedError


async def asking(tracker: Tracker, body: Callable[[HttpClient], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, tracker)
        async with new_client() as http:
            await body(http)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("asks_again", [False, True])
async def test_chunk_extensions_without_end_are_not_listened_to(asks_again: bool) -> None:
    """Also over a connection where much was heard before, and after a redirect."""
    tracker, chunk = Tracker(), b"1;why=" + b"x" * 50_000 + b"\r\nx\r\n"
    endless = Reply(raw=CHUNKED, endless=chunk)
    if asks_again:
        tracker.script.append(Reply(b"x" * LIMIT))
        tracker.script.append(Reply(status=302, headers={"Location": "/there"}))
    tracker.script.extend([endless, endless])

    async def ask(http: HttpClient) -> None:
        if asks_again:
            assert len((await http.get(tracker.url, max_bytes=LIMIT)).body) == LIMIT
        with pytest.raises(TrackerError, match="all that is around it"):
            await http.get(tracker.url, max_bytes=LIMIT, deadline_s=60.0)
        answer = await http.post(tracker.url, b"", headers={}, max_bytes=LIMIT, deadline_s=60.0)
        assert (answer.status, answer.body) == (200, b"")

    await asking(tracker, ask)


async def test_answers_in_many_small_chunks_are_heard() -> None:
    tracker, asked = Tracker(), 5
    tracker.always = Reply(raw=CHUNKED + b"1\r\na\r\n" * CHUNKS_AT_MOST + b"0\r\n\r\n")
    assert CHUNKS_AT_MOST * len(b"1\r\n\r\n") < FRAMING_AT_MOST_BYTES

    async def ask(http: HttpClient) -> None:
        for _ in range(asked):
            assert (await http.get(tracker.url, max_bytes=LIMIT)).body == b"a" * CHUNKS_AT_MOST

    await asking(tracker, ask)


async def test_so_much_is_heard_of_each_answer_over_a_connection() -> None:
    tracker = Tracker()
    served: set[str] = set()

    def answer(asked: Asked) -> Reply:
        served.add(asked.target)
        return Reply(b"x" * LIMIT)

    tracker.always = answer

    async def ask(http: HttpClient) -> None:
        for number in range(10):
            found = await http.get(f"{tracker.url}?{number}", max_bytes=LIMIT)
            assert len(found.body) == LIMIT

    await asking(tracker, ask)
    assert len(served) == 10
