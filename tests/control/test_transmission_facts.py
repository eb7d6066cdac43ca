"""What Transmission's RPC tells of a torrent is so: nothing is a constant that only looks like an answer."""

import base64
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from bittern.engine.events import Checked, Completed, TrackerTrouble
from bittern.engine.torrent import State
from bittern.proto import messages as m
from bittern.proto.announce import AnnounceEvent
from bittern.proto.bencode import Value, decode, encode
from tests.fakes.control import controlling
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected, piece
from tests.fakes.torrents import Made, make_torrent
from tests.fakes.transmission_rpc import Client, speaking

BOX = make_torrent("box", files=[("a.mkv", 60_000), ("b.txt", 5_000)], piece_length=16384)


def told_more(made: Made, **more: Value) -> Made:
    """The same torrent, of which more is said."""
    top = decode(made.blob)
    assert isinstance(top, dict)
    return replace(
        made, blob=encode(top | {name.replace("_", " ").encode(): value for name, value in more.items()})
    )


async def one(client: Client, *fields: str) -> Any:
    (row,) = (await client.ask("torrent-get", fields=list(fields)))["torrents"]
    return row[fields[0]] if len(fields) == 1 else tuple(row[field] for field in fields)


async def test_what_the_torrent_says_of_itself(tmp_path: Path) -> None:
    said = told_more(BOX, comment=b"hello", created_by=b"me", creation_date=1234567890)
    said = replace(said, blob=encode(decode(said.blob) | {b"url-list": b"http://w.example/x"}))  # type: ignore[operator]  # a dictionary
    async with speaking(tmp_path) as client:
        await client.engine.add(said)
        told = await one(
            client, "comment", "creator", "dateCreated", "webseeds", "primary-mime-type", "file-count"
        )
        assert told == ("hello", "me", 1234567890, ["http://w.example/x"], "video/x-matroska", 2)
        assert Path(await one(client, "torrentFile")).read_bytes() == said.blob
        link = await one(client, "magnetLink")
        assert link == f"magnet:?xt=urn:btih:{BOX.info_hash.hex()}&dn=box"


async def test_who_has_what_and_what_was_corrupt(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        engine = client.engine
        await engine.add(BOX)
        await engine.until(Checked)
        assert await one(client, "availability", "desiredAvailable") == ([0] * 4, 0)
        async with connected(engine.address, BOX.info_hash) as peer:
            # the last one, which is shorter, and the first
            await peer.say(m.pack_bitfield(b"\x90"), m.UNCHOKE)
            await peer.hear_until("interested")
            assert await one(client, "availability") == [1, 0, 0, 1]
            assert await one(client, "desiredAvailable") == 16384 + 65_000 - 3 * 16384
            assert (await one(client, "peersFrom"))["fromIncoming"] == 1
            await peer.hear_until("request")
            await peer.say(piece(0, 0, bytes(16384)))
            await engine.until_true(
                lambda: engine.session.torrents[BOX.info_hash].record.corrupt_bytes == 16384, "noted"
            )
        assert await one(client, "corruptEver") == 16384
        async with connected(engine.address, BOX.info_hash, source="127.0.0.9") as peer:
            await peer.say(m.HAVE_ALL, m.UNCHOKE)
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(peer.serve, BOX)
                    await engine.until(Completed)
                    nursery.cancel_scope.cancel()
        assert await one(client, "availability") == [-1] * 4
        pieces, percent, done = await one(client, "pieces", "percentComplete", "doneDate")
        assert (base64.b64decode(pieces), percent) == (b"\xf0", 1.0)
        active, added = await one(client, "activityDate", "addedDate")
        assert added <= done <= active + 1
        before = await client.ask("session-stats")
        assert before["cumulative-stats"] == before["current-stats"] | {
            "secondsActive": before["cumulative-stats"]["secondsActive"]
        }
        assert before["current-stats"]["filesAdded"] == 2
        assert before["current-stats"]["downloadedBytes"] >= 65_000
        await client.ask("torrent-remove", ids=[1])
    async with speaking(tmp_path) as client:
        stats = await client.ask("session-stats")
        assert stats["current-stats"]["downloadedBytes"] == 0
        assert stats["cumulative-stats"]["downloadedBytes"] == before["current-stats"]["downloadedBytes"]
        assert (stats["cumulative-stats"]["sessionCount"], stats["cumulative-stats"]["filesAdded"]) == (2, 2)


async def test_times_outlive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(BOX)
        await engine.until(Checked)
        torrent = engine.session.torrents[BOX.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        torrent.downloading_at -= 1000
        torrent.moved_at = trio.current_time() - 500
        await engine.session.pause(BOX.info_hash)
        await engine.session.resume(BOX.info_hash)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        client = Client(control, engine)
        downloading, started, added, active = await one(
            client, "secondsDownloading", "startDate", "addedDate", "activityDate"
        )
        assert 1000 <= downloading < 1100
        assert started >= added > active >= added - 600


async def test_what_trackers_complain_of(tmp_path: Path) -> None:
    made = make_torrent("one.bin", trackers=[["http://t.example/announce"]])
    async with speaking(tmp_path) as client:
        await client.engine.add(made)
        # nobody is there whom the engine of a test could ask
        await client.engine.until(TrackerTrouble)
        torrent, announcer = client.engine.session.torrents[made.info_hash], client.engine.session.announcer
        for told, expected in ((None, (0, "")), ("unregistered", (2, "unregistered"))):
            announcer._tell(torrent, "http://t.example/announce", told)
            assert await one(client, "error", "errorString") == expected
        (stats,) = await one(client, "trackerStats")
        assert stats["lastAnnounceResult"] == "unregistered"


async def test_counts_are_of_the_tracker_that_told_them(tmp_path: Path) -> None:
    made = make_torrent("one.bin", trackers=[["http://t.example/announce"], ["http://u.example/announce"]])
    async with speaking(tmp_path) as client:
        await client.engine.add(made)
        announce = client.engine.session.torrents[made.info_hash].announce
        url = "http://t.example/announce"
        announce.succeeded(
            url,
            AnnounceEvent.STARTED,
            trio.current_time(),
            random.Random(1),
            interval_s=1800.0,
            min_interval_s=None,
            tracker_id=None,
        )
        announce.counted(5, 2, url=url)
        told, silent = await one(client, "trackerStats")
        assert (told["hasScraped"], told["seederCount"], told["leecherCount"]) == (True, 5, 2)
        assert told["lastScrapeTime"] == told["lastAnnounceTime"] > 0
        assert (silent["hasScraped"], silent["lastScrapeSucceeded"], silent["seederCount"]) == (
            False,
            False,
            -1,
        )


async def test_how_far_a_check_is(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        await client.engine.add(BOX)
        await client.engine.until(Checked)
        torrent = client.engine.session.torrents[BOX.info_hash]
        client.engine.session.checker._hashed[torrent] = [1, 4]
        assert await one(client, "recheckProgress") == 0.25
        del client.engine.session.checker._hashed[torrent]
        assert await one(client, "recheckProgress") == 0.0
