"""Calls that are made at once share runs, and nobody loses or gets anything by that."""

import pytest
import trio

from bittern.disk.together import Together


class Squares:
    """Work that can be held up and counts its runs."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.under_way = self.most_under_way = 0

    async def __call__(self, items: list[int]) -> list[int | Exception]:
        await trio.lowlevel.checkpoint_if_cancelled()
        self.runs.append(items)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        self.under_way -= 1
        if 30 in items:
            raise ZeroDivisionError
        return [ValueError(str(one)) if one < 0 else one * one for one in items]


async def ask(together: Together[int, int], item: int, found: dict[int, object]) -> None:
    try:
        found[item] = await together(item)
    except (ValueError, ZeroDivisionError) as error:
        found[item] = type(error)


async def ask_all(together: Together[int, int], *items: int) -> dict[int, object]:
    found: dict[int, object] = {}
    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(ask, together, item, found)
    return found


async def test_who_comes_meanwhile_shares_the_next_run(autojump_clock: trio.testing.MockClock) -> None:
    work = Squares()
    together = Together(work, at_most=4)
    assert await ask_all(together, *range(10)) == {one: one * one for one in range(10)}
    assert list(map(len, work.runs)) == [4, 4, 2]  # who asks in the same turn of the loop, too
    assert work.most_under_way == 1
    assert await together(5) == 25  # and afterwards nobody waits for anybody
    assert trio.current_time() == pytest.approx(4)


async def test_several_teams_at_once(autojump_clock: trio.testing.MockClock) -> None:
    work = Squares()
    found = await ask_all(Together(work, at_most=4, teams=2), *range(20))
    assert found == {one: one * one for one in range(20)}
    assert work.most_under_way == 2
    assert sorted(item for run in work.runs for item in run) == list(range(20))


async def test_an_error_is_its_own_items_and_a_bug_leaves_the_others_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    work = Squares()
    found = await ask_all(Together(work, at_most=8), 1, 2, -3, 4)
    assert found == {1: 1, 2: 4, -3: ValueError, 4: 16}
    work = Squares()
    together = Together(work, at_most=8)
    found = await ask_all(together, 1, 2, 30, 4, 5)
    assert found[30] is ZeroDivisionError
    assert sum(outcome is ZeroDivisionError for outcome in found.values()) <= 2  # it, and who led its team
    assert set(found) == {1, 2, 30, 4, 5}
    assert await together(6) == 36


@pytest.mark.parametrize("at_s", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("who", range(6))
async def test_a_cancelled_caller_is_nobody_elses_trouble(
    autojump_clock: trio.testing.MockClock, at_s: float, who: int
) -> None:
    work = Squares()
    together = Together(work, at_most=2, teams=1)
    found: dict[int, object] = {}
    scopes = [trio.CancelScope() for _ in range(6)]

    async def cancellable(item: int) -> None:
        with scopes[item]:
            await ask(together, item, found)

    async with trio.open_nursery() as nursery:
        for item in range(6):
            nursery.start_soon(cancellable, item)
        if at_s:
            await trio.sleep(at_s)
        scopes[who].cancel()
    assert found.keys() | {who} == set(range(6))
    assert together._free_teams == 1
    assert not together._waiting
    assert await together(9) == 81


async def test_who_gave_up_in_a_team_that_failed_does_not_lead_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    work = Squares()
    together = Together(work, at_most=4)
    found: dict[int, object] = {}
    gives_up = trio.CancelScope()

    async def give_up(item: int) -> None:
        with gives_up:
            await ask(together, item, found)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, together, 1, found)
        await trio.sleep(0.1)
        nursery.start_soon(ask, together, 30, found)
        await trio.sleep(0.1)
        nursery.start_soon(give_up, 3)
        await trio.sleep(1.1)  # the second team, of 30 and 3, is at work, and will fail
        gives_up.cancel()
    assert found == {1: 1, 30: ZeroDivisionError}
    with trio.fail_after(10):
        assert await together(5) == 25
