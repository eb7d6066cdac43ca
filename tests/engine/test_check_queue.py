"""Who is woken for what there is to check."""

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from bittern.engine.check_queue import SMALL_BYTES, CheckQueue


class Submitted:
    def __init__(self, state: str, total_bytes: int) -> None:
        self.record = SimpleNamespace(state=state, total_bytes=total_bytes)


class Wakes(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def task_scheduled(self, task: Any) -> None:
        self.count += task.name.endswith("work")


async def test_one_worker_is_woken_for_each_and_of_those_who_can_the_one_who_can_do_least() -> None:
    checks, wakes = CheckQueue(), Wakes()
    checked: list[tuple[str, Submitted]] = []

    async def work(who: str, *lanes: Any) -> None:
        while True:
            torrent: Any = await checks.next(*lanes)
            checked.append((who, torrent))
            await trio.sleep_forever()

    small, large = Submitted("downloading", SMALL_BYTES), Submitted("downloading", SMALL_BYTES + 1)
    audit, another = Submitted("complete", 1), Submitted("downloading", 1)
    third, fourth = Submitted("downloading", 1), Submitted("downloading", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "all", checks.large, checks.small, checks.doubtful)
        nursery.start_soon(work, "downloads", checks.large, checks.small)
        for _ in range(2):
            nursery.start_soon(work, "small", checks.small)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(wakes)
        for torrent, who in (
            (small, "small"),
            (large, "downloads"),
            (audit, "all"),
            (another, "small"),
        ):
            checks.submit(torrent)  # type: ignore[arg-type]
            if torrent is audit:
                assert await checks.next_audits(9) == [audit]
                checks.doubt([audit])  # type: ignore[list-item]
            await trio.testing.wait_all_tasks_blocked()
            assert checked[-1] == (who, torrent)
        assert wakes.count == 4
        # nobody is left who waits: whoever comes next finds them in their order
        checks.submit(third)  # type: ignore[arg-type]
        checks.submit(fourth)  # type: ignore[arg-type]
        nursery.start_soon(work, "late", checks.small)
        await trio.testing.wait_all_tasks_blocked()
        assert checked[-1] == ("late", third)
        trio.lowlevel.remove_instrument(wakes)
        nursery.cancel_scope.cancel()


async def test_several_that_come_in_one_turn_wake_as_many() -> None:
    checks = CheckQueue()
    checked: list[Any] = []

    async def work() -> None:
        while True:
            checked.append(await checks.next(checks.small))
            await trio.sleep_forever()

    torrents: list[Any] = [Submitted("downloading", 1) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()
        for torrent in torrents:
            checks.submit(torrent)
        await trio.testing.wait_all_tasks_blocked()
        assert checked == torrents
        nursery.cancel_scope.cancel()


async def test_whoever_takes_another_s_leaves_its_own_to_a_third() -> None:
    """In whichever order they wake: those who look for downloads first were woken for what was doubtful."""
    checks = CheckQueue()
    checked: list[Any] = []

    async def work(*lanes: Any) -> None:
        checked.append(await checks.next(*lanes))
        await trio.sleep_forever()

    for _ in range(20):
        checked.clear()
        small, doubtful = Submitted("downloading", 1), Submitted("complete", 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, checks.small)
            for _ in range(2):
                nursery.start_soon(work, checks.large, checks.small, checks.doubtful)
            await trio.testing.wait_all_tasks_blocked()
            checks.submit(small)  # type: ignore[arg-type]
            checks.doubt([doubtful])  # type: ignore[list-item]
            await trio.testing.wait_all_tasks_blocked()
            assert {*checked} == {small, doubtful}
            nursery.cancel_scope.cancel()


async def test_audits_come_together() -> None:
    checks = CheckQueue()
    audits: list[Any] = [Submitted("complete", 1) for _ in range(5)]
    teams: list[Any] = []

    async def audit() -> None:
        while True:
            teams.append(await checks.next_audits(3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(audit)
        await trio.testing.wait_all_tasks_blocked()
        for torrent in audits:
            checks.submit(torrent)
        await trio.testing.wait_all_tasks_blocked()
        assert teams == [audits[:3], audits[3:]]
        nursery.cancel_scope.cancel()
