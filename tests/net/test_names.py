"""Names: off the loop, in time, once for all who ask, and not again too soon."""

import threading
import time
from collections.abc import Callable

import pytest
import trio

from bittern.errors import TrackerError
from bittern.net import names
from bittern.net.http import Unreachable
from bittern.net.names import KEPT_AT_MOST, KEPT_S, RETRY_S, THREADS, Names
from bittern.net.scope import DialScope


class Resolver:
    """Counts, and answers from a book."""

    def __init__(self, **book: list[str]) -> None:
        self.book = book
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        assert self.gate.wait(300)
        if host not in self.book:
            raise OSError(-2, "Name or service not known")
        return self.book[host]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the time that names are kept by. (A mock clock and threads do not go together.)"""
    now = [100.0]
    monkeypatch.setattr(names.trio, "current_time", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


async def test_numbers_are_not_looked_up() -> None:
    resolver = Resolver()
    made = Names(resolve=resolver)
    for host in ("192.0.2.1", "2001:db8::1", "127.0.0.1"):
        assert await made.lookup(host) == (host,)
    for nobody in ("224.0.0.1", "0.0.0.0", "::", "ff02::1", "255.255.255.255"):
        with pytest.raises(Unreachable):
            await made.lookup(nobody)


async def test_names_are_kept_shortly(clock: Callable[[float], None]) -> None:
    resolver = Resolver(t=["2001:db8::1", "192.0.2.1", "192.0.2.1", "224.0.0.9", "nonsense"])
    made = Names(resolve=resolver)
    for _ in range(3):
        assert await made.lookup("t") == ("2001:db8::1", "192.0.2.1")
    assert len(resolver.asked) == 1
    clock(KEPT_S + 1)
    del resolver.book["t"]
    assert await made.lookup("t") == ("2001:db8::1", "192.0.2.1"), "names fail more often than hosts move"
    assert len(resolver.asked) == 2
    resolver.book["t"] = ["192.0.2.2"]
    clock(RETRY_S + 1)
    assert await made.lookup("t") == ("192.0.2.2",)


async def test_a_name_that_is_not_there_is_not_asked_for_at_once_again(
    clock: Callable[[float], None],
) -> None:
    resolver = Resolver()
    made = Names(resolve=resolver)
    for _ in range(3):
        with pytest.raises(Unreachable, match="cannot be looked up"):
            await made.lookup("t")
    assert len(resolver.asked) == 1
    clock(RETRY_S + 1)
    resolver.book["t"] = ["192.0.2.2"]
    assert await made.lookup("t") == ("192.0.2.2",)


async def test_one_question_for_all_who_ask() -> None:
    resolver = Resolver(t=["192.0.2.1"])
    resolver.gate.clear()
    made = Names(resolve=resolver)
    found: list[tuple[str, ...]] = []

    async def ask() -> None:
        found.append(await made.lookup("t"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        resolver.gate.set()
    assert found == [("192.0.2.1",)] * 20
    assert resolver.asked == ["t"]


async def test_a_resolver_that_is_stuck_has_a_deadline_and_few_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "DEADLINE_S", 0.1)
    resolver = Resolver()
    resolver.gate.clear()
    made = Names(resolve=resolver)
    try:

        async def ask(number: int) -> None:
            with pytest.raises(Unreachable):
                await made.lookup(f"t{number}")

        with trio.fail_after(90):
            async with trio.open_nursery() as nursery:
                for number in range(3 * THREADS):
                    nursery.start_soon(ask, number)
            # a thread may begin after nobody waits for it any more
            while len(resolver.asked) < THREADS:
                await trio.sleep(0.01)
        assert len(resolver.asked) == THREADS
        # others have threads of their own
        with trio.fail_after(90):
            await trio.to_thread.run_sync(time.sleep, 0)
    finally:
        resolver.gate.set()


async def test_who_waits_asks_again_when_the_first_is_cancelled() -> None:
    resolver = Resolver(t=["192.0.2.1"])
    resolver.gate.clear()
    made = Names(resolve=resolver)
    found: list[tuple[str, ...]] = []

    async def ask() -> None:
        found.append(await made.lookup("t"))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as first:
            nursery.start_soon(_cancel_when_blocked, first)
            await made.lookup("t")
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        resolver.gate.set()
    assert found == [("192.0.2.1",)]


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_what_is_kept_is_bounded() -> None:
    made = Names(resolve=lambda host: ["192.0.2.1"])
    for number in range(KEPT_AT_MOST + 5):
        await made.lookup(f"t{number}")
    assert len(made._known) == KEPT_AT_MOST
    assert "t0" not in made._known


@pytest.mark.parametrize("host", ["a" * 300, "x..y", "\ud800", "\x00"])
async def test_names_that_nobody_can_have(host: str) -> None:
    with trio.fail_after(90), pytest.raises(Unreachable):
        await Names().lookup(host)


async def test_this_host_looks_up_nothing_but_itself() -> None:
    resolver = Resolver()
    made = Names(scope=DialScope(this_host=True), resolve=resolver)
    assert await made.lookup("localhost") == ("127.0.0.1", "::1")
    for host in ("t.example", "192.0.2.1"):
        with pytest.raises(TrackerError, match="dial_scope") as caught:
            await made.lookup(host)
        assert caught.value.retry_in_s == float("inf")
    assert resolver.asked == []
