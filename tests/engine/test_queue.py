"""At most so many at once; who stands still lets others run beside it; places last over restarts."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.events import Checked, Completed, Recovered, Stalled, Started
from bittern.engine.settings import Settings
from bittern.engine.torrent import State, Torrent
from bittern.net.dialer import Dialer
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent

MADE = [
    make_torrent(f"t{n}", size=40_000, piece_length=16384, trackers=[["http://a.example/"]]) for n in range(4)
]


def of(engine: Engine, made: Made) -> Torrent:
    return engine.session.torrents[made.info_hash]


def states(engine: Engine) -> str:
    """One letter each: d, s, q, p(aused), or what else it is."""
    letters = {State.DOWNLOADING: "d", State.SEEDING: "s", State.QUEUED: "q", State.STOPPED: "p"}
    return "".join(letters.get(of(engine, made).state, "?") for made in MADE)


async def added(engine: Engine) -> None:
    for number, made in enumerate(MADE, 1):
        await engine.add(made)
        await engine.until(Checked, number)


async def test_downloads_wait_for_their_turn(tmp_path: Path) -> None:
    async with running(tmp_path, max_downloads=2) as engine:
        await added(engine)
        assert states(engine) == "ddqq"
        assert len(engine.told(Started)) == 2
        assert MADE[2].info_hash not in engine.session.announcer._torrents
        with pytest.raises(trio.EndOfChannel):
            async with connected(engine.address, MADE[2].info_hash):
                pass
        async with connected(engine.address, MADE[0].info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seed.serve, MADE[0])
                await engine.until(Completed)
                nursery.cancel_scope.cancel()
        await engine.until_true(lambda: states(engine) == "sddq", "the next one's turn")
        assert MADE[2].info_hash in engine.session.announcer._torrents
        await engine.session.pause(MADE[1].info_hash)
        await engine.until_true(lambda: states(engine) == "spdd", "the last one's turn")
        await engine.session.resume(MADE[1].info_hash)
        await engine.until_true(lambda: states(engine) == "sqdd", "the end of the line")
    async with running(tmp_path, max_downloads=2) as engine:
        # first come, first served: it came before the others
        await engine.until_true(lambda: states(engine) == "sddq", "the same order again")


async def test_the_more_wanted_and_the_forced_come_first_also_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, max_downloads=1) as engine:
        await added(engine)
        assert states(engine) == "dqqq"
        await engine.session.set_place(MADE[3].info_hash, priority=5)
        await engine.until_true(lambda: states(engine) == "qqqd", "the wanted one")
        await engine.session.set_place(MADE[2].info_hash, forced=True)
        assert states(engine) == "qqdd"
        await engine.session.set_place(MADE[0].info_hash, priority=-5)
    async with running(tmp_path, max_downloads=1) as engine:
        await engine.until_true(lambda: states(engine) == "qqdd", "the same")
        await engine.session.remove(MADE[3].info_hash, reason="test")
        await engine.until_true(lambda: of(engine, MADE[1]).state is State.DOWNLOADING, "the next")
        assert of(engine, MADE[0]).record.priority == -5


async def test_the_priority_of_a_folder_is_its_torrents(tmp_path: Path) -> None:
    async with running(tmp_path, max_downloads=1) as engine:
        await added(engine)
        wanted = make_torrent("wanted")
        await engine.add(wanted, priority=1)
        await engine.until_true(
            lambda: (
                wanted.info_hash in engine.session.torrents and of(engine, wanted).state is State.DOWNLOADING
            ),
            "its turn",
        )
        assert states(engine) == "qqqq"


async def test_seeds_wait_too_and_new_limits_hold_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, max_seeds=1) as engine:
        for number, made in enumerate(MADE, 1):
            made.write(engine.downloads)
            await engine.add(made)
            await engine.until(Completed, number)
        assert states(engine) == "sqqq"
    async with running(tmp_path, max_seeds=3) as engine:
        await engine.until_true(lambda: states(engine) == "sssq", "three")

        def limited(most: int | None) -> Settings:
            return Settings(state=engine.settings.state, downloads=engine.settings.downloads, max_seeds=most)

        engine.session.apply(limited(None))
        await engine.until_true(lambda: states(engine) == "ssss", "all")
        engine.session.apply(limited(2))
        assert states(engine) == "ssqq"


async def test_who_stands_still_is_told_once_and_lets_another_run_beside_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with running(tmp_path, dialer=Dialer(), max_downloads=1, stalled_after_s=600.0) as engine:
        await added(engine)
        await trio.sleep(590)
        assert states(engine) == "dqqq"
        await trio.sleep(20)
        assert states(engine) == "ddqq"
        [stalled] = engine.told(Stalled)
        assert (stalled.facts.info_hash, stalled.peers) == (MADE[0].info_hash, 0)
        assert stalled.idle_s == pytest.approx(600, abs=2)
        await trio.sleep(300)
        assert len(engine.told(Stalled)) == 1
        engine.session.swarms.moved_bytes(of(engine, MADE[0]), down=1, up=0, now=trio.current_time())
        assert engine.told(Recovered)
        await trio.sleep(2)
        assert states(engine) == "dqqq", "one is enough, and it was there first"
        await trio.sleep(610)
        assert len(engine.told(Stalled)) == 2
        assert states(engine) == "ddqq"


async def test_nothing_stalls_where_nobody_minds(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path, dialer=Dialer(), stalled_after_s=None) as engine:
        await added(engine)
        await trio.sleep(1000)
        assert states(engine) == "dddd"
        assert not engine.told(Stalled)


async def test_who_began_is_told_once_and_again_after_a_pause(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(MADE[0])
        await engine.until(Started)
    async with running(tmp_path) as engine:
        await engine.until_true(lambda: of(engine, MADE[0]).state is State.DOWNLOADING, "downloading")
        assert not engine.told(Started)
        await engine.session.pause(MADE[0].info_hash)
        await engine.session.resume(MADE[0].info_hash)
        await engine.until(Started)
