"""Who dies when what dies."""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise

import pytest
import trio

from bittern.engine.events import Crashed, CrashedAgain, Event
from bittern.engine.supervision import Intensity, Supervisor, is_bug, widest
from bittern.errors import MetainfoError, PeerGone, ProtocolError, StateError, StorageError, TrackerError

DAY_S = 86400


def test_the_widest_error_of_a_group_counts() -> None:
    peer, tracker, torrent, daemon, bug = (
        ProtocolError("p"),
        TrackerError("t"),
        StorageError("s"),
        StateError("d"),
        KeyError("b"),
    )
    ranked = [peer, tracker, torrent, daemon, bug]
    for at, error in enumerate(ranked):
        nested = ExceptionGroup("", [ranked[0], ExceptionGroup("", ranked[: at + 1])])
        assert widest(nested) is error
    assert is_bug(bug)
    assert not any(is_bug(error) for error in (peer, tracker, torrent, daemon, OSError(), MetainfoError("m")))


def test_intensity_counts_in_a_window() -> None:
    falls = Intensity(at_most=3, window_s=60)
    assert [falls.fell(at) for at in (0, 10, 20)] == [False] * 3
    assert falls.fell(30)
    assert not falls.fell(85)
    assert not falls.fell(200)


async def test_what_is_contained_is_settled_and_only_bugs_are_told() -> None:
    told: list[Event] = []
    settled: list[Exception] = []
    supervisor = Supervisor(told.append)

    async def fails(error: Exception) -> None:
        async def body() -> None:
            async with trio.open_nursery():
                raise error

        await supervisor.contain("here", body, settled.append, remedy="none")

    await fails(PeerGone("left"))
    assert not told
    await fails(ZeroDivisionError("bug"))
    assert isinstance(told[0], Crashed)
    assert told[0].where == "here"
    assert [type(error) for error in settled] == [PeerGone, ZeroDivisionError]
    supervisor.guard("there", lambda: [][1], settled.append, remedy="none")  # type: ignore[misc]  # the bug on purpose
    assert isinstance(settled[-1], IndexError)
    assert supervisor.crashes == 2


async def test_cancellation_always_passes() -> None:
    supervisor = Supervisor(lambda event: None)
    with trio.move_on_after(0.01) as scope:
        await supervisor.contain("here", trio.sleep_forever, lambda error: None, remedy="none")
    assert scope.cancelled_caught


async def test_a_service_is_restarted_and_gives_up(autojump_clock: trio.testing.MockClock) -> None:
    told: list[Event] = []
    starts = 0

    async def falls(*, task_status: trio.TaskStatus[int]) -> None:
        nonlocal starts
        starts += 1
        task_status.started(starts)
        await trio.sleep(1)
        raise RuntimeError("bug")

    supervisor = Supervisor(told.append)
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            assert await nursery.start(supervisor.serve, "it", falls) == 1
    assert starts == 4
    assert supervisor.crashes == 4
    first, *counted, last = told
    assert isinstance(first, Crashed)
    assert [type(event) for event in counted] == [CrashedAgain] * len(counted)
    assert isinstance(last, Crashed)
    assert last.remedy == "bittern stops"


async def test_a_service_that_falls_rarely_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    starts = 0

    async def falls(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal starts
        starts += 1
        task_status.started()
        await trio.sleep(30)
        raise RuntimeError("bug")

    with trio.move_on_after(600):
        await Supervisor(lambda event: None).serve("it", falls)
    assert starts > 15


async def test_a_refusal_of_the_daemon_ends_a_service_at_once() -> None:
    async def refuses(*, task_status: trio.TaskStatus[None]) -> None:
        raise StateError("no")

    told: list[Event] = []
    with pytest.RaisesGroup(StateError, flatten_subgroups=True):
        await Supervisor(told.append).serve("it", refuses)
    assert not told


async def test_a_dispensable_service_is_started_again_for_ever_after_pauses_that_grow(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told: list[Event] = []
    starts: list[float] = []

    async def falls(*, task_status: trio.TaskStatus[None]) -> None:
        starts.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(starts) == 12:
            await trio.sleep(601)
        raise RuntimeError("bug")

    supervisor = Supervisor(told.append)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        # before it has said that it is started, which it never does
        await nursery.start(partial(supervisor.serve, dispensable=True), "it", falls)
        assert trio.current_time() == began
        assert supervisor.resting == {"it"}
        await trio.sleep(2000)
        nursery.cancel_scope.cancel()
    pauses = [later - before for before, later in pairwise(starts)]
    assert pauses[:11] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert pauses[11:14] == [601.5, 1, 2], "having run for long it is trusted again"
    assert told[0].remedy == "the service is started again in 0.5 s"  # type: ignore[attr-defined]  # of a Crashed


async def test_a_service_that_runs_again_rests_no_more(autojump_clock: trio.testing.MockClock) -> None:
    supervisor = Supervisor(lambda event: None)
    starts = 0

    async def falls_once(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal starts
        starts += 1
        task_status.started()
        if starts == 1:
            raise RuntimeError("bug")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.serve, "it", falls_once)
        assert supervisor.resting == {"it"}
        await trio.sleep(1)
        assert starts == 2
        assert not supervisor.resting
        nursery.cancel_scope.cancel()


async def test_of_each_place_the_first_bug_is_told_in_full_and_the_others_are_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told: list[Event] = []
    supervisor = Supervisor(told.append)

    async def fails(bug: int) -> None:
        raise RuntimeError(f"bug {bug}")

    async def also_fails(bug: int) -> None:
        raise RuntimeError(f"another {bug}")

    async def meets(body: Callable[[int], Awaitable[None]], bug: int) -> None:
        await supervisor.contain(f"peer {bug}", partial(body, bug), lambda _: None, remedy="it is closed")

    for bug in range(100):
        await meets(fails, bug)
        await meets(also_fails, bug)
    assert [type(event) for event in told] == [Crashed, Crashed]
    for bug in range(DAY_S // 10):
        await meets(fails, bug)
        await trio.sleep(10)
        supervisor.tell_due(trio.current_time())  # as the heartbeat does
    supervisor.tell_rest()
    again = [event.more for event in told if isinstance(event, CrashedAgain)]
    assert len(again) == len(told) - 2
    assert 20 <= len(again) <= 40, "one an hour in the end"
    assert {more.where for more in again} >= {"peer 99", f"peer {DAY_S // 10 - 1}"}
    assert again[-1].error == f"RuntimeError('bug {DAY_S // 10 - 1}')"
    assert sum(more.count for more in again) == supervisor.crashes - 2
    supervisor.tell_rest()
    assert len(told) == 2 + len(again), "nothing is told twice"
    await trio.sleep(2 * DAY_S)
    await meets(fails, 0)
    assert isinstance(told[-1], Crashed), "told anew after a day of quiet"


async def test_a_bug_in_what_follows_a_failure_passes_on_no_further() -> None:
    told: list[Event] = []
    supervisor = Supervisor(told.append)

    async def leaves() -> None:
        raise PeerGone("left")

    await supervisor.contain("peer x", leaves, lambda _: [][1], remedy="none")  # type: ignore[misc]  # the bug on purpose
    (crash,) = told
    assert isinstance(crash, Crashed)
    assert crash.where == "what follows a failure of peer x"
    assert isinstance(crash.exception, IndexError)
    with pytest.raises(IndexError):
        await Supervisor(told.append, strict=True).contain("x", leaves, lambda _: [][1], remedy="none")  # type: ignore[misc]  # the same
