"""Who comes round comes round together."""

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bittern.engine.beats import beat_at, next_beat


async def test_services_of_several_paces_wake_in_the_same_turns(autojump_clock: MockClock) -> None:
    woke: dict[float, list[float]] = {1.0: [], 2.0: [], 5.0: []}

    async def serve(pace: float, begins: float) -> None:
        await trio.sleep(begins)
        while True:
            await next_beat(pace)
            woke[pace].append(trio.current_time())
            # what it does then takes a while, and delays nothing
            await trio.sleep(pace / 3)

    with trio.move_on_after(60.5):
        async with trio.open_nursery() as nursery:
            for number, pace in enumerate(woke):
                nursery.start_soon(serve, pace, number * 0.3)
    assert [len(times) for times in woke.values()] == [60, 30, 12]
    assert set(woke[2.0]) < set(woke[1.0]) > set(woke[5.0])


@given(
    now=st.floats(0, 1e8, allow_nan=False),
    pace=st.one_of(st.integers(1, 600).map(float), st.floats(0.001, 100, allow_nan=False)),
)
def test_a_beat_lies_ahead_and_not_far(now: float, pace: float) -> None:
    async def ask() -> tuple[float, float]:
        return trio.current_time(), beat_at(pace)

    clock = MockClock()
    clock.jump(now)
    at, beat = trio.run(ask, clock=clock)
    assert at < beat <= at + pace * 1.001 + 1e-6
