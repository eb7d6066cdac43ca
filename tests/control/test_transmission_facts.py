"""What Transmission's RPC tells of a torrent is so: nothing is a constant that only looks like an answer."""

import base64
import random
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from bittern.engine.events import Checked, Completed, TrackerTrouble
from bittern.engine.torrent import State
from bittern.policy.roster import Source
from bittern.proto import messages as m
from bittern.proto.announce import AnnounceEvent
from bittern.proto.bencode import Value, decode, encode
from bittern.terms import Address, PeerId
from tests.fakes.control import controlling
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected, dialled, piece
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
            with trio.fail_after(60):
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


async def test_a_long_error_of_its_own_is_cut(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        await client.engine.add(BOX)
        client.engine.session.torrents[BOX.info_hash].error = "internal error: " + "x" * 10_000
        assert len(await one(client, "errorString")) == 500


async def test_when_it_was_edited(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        BOX.write(client.engine.downloads)
        await client.engine.add(BOX)
        await client.engine.until(Completed)
        session, key = client.engine.session, BOX.info_hash
        added = await one(client, "addedDate")
        for edit in (
            lambda: session.rename(key, "box/a.mkv", "c.mkv"),
            lambda: session.set_labels(key, ["films"]),
            lambda: session.set_trackers(key, lambda _: (("http://t.example/announce",),)),
            lambda: session.move(key, str(tmp_path / "elsewhere")),
        ):
            session.edits.forget(key)
            assert await one(client, "editDate") == 0
            await edit()
            assert await one(client, "editDate") >= added


async def test_what_landed_of_pieces_that_are_not_whole(tmp_path: Path) -> None:
    made = make_torrent(size=300_000, piece_length=65536)
    async with speaking(tmp_path) as client:
        engine = client.engine
        await engine.add(made)
        await engine.until(Checked)
        assert await one(client, "haveUnchecked") == 0
        async with connected(engine.address, made.info_hash) as peer:
            await peer.say(m.HAVE_ALL, m.UNCHOKE)
            index, begin, length = struct.unpack(">III", await peer.hear_until("request"))
            await peer.say(piece(index, begin, made.piece(index)[begin : begin + length]))
            swarm = engine.session.swarms.live[made.info_hash]
            await engine.until_true(
                lambda: swarm.fetch is not None and swarm.fetch.unfinished_blocks == 1, "a block"
            )
            assert await one(client, "haveUnchecked", "haveValid") == (length, 0)


async def test_how_many_a_tracker_named_and_when_it_may_be_asked_again(tmp_path: Path) -> None:
    made = make_torrent("one.bin", trackers=[["http://t.example/announce"], ["http://u.example/announce"]])
    async with speaking(tmp_path) as client:
        await client.engine.add(made)
        await client.engine.until(Checked)
        torrent = client.engine.session.torrents[made.info_hash]
        await client.engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert await one(client, "manualAnnounceTime") == -1
        torrent.announce.succeeded(
            "http://t.example/announce",
            AnnounceEvent.STARTED,
            trio.current_time(),
            random.Random(1),
            interval_s=1800.0,
            min_interval_s=300.0,
            tracker_id=None,
            named=7,
        )
        stats, may = await one(client, "trackerStats", "manualAnnounceTime")
        assert [one["lastAnnouncePeerCount"] for one in stats] == [7, 0]
        assert 200 < may - time.time() < 301
        await client.engine.session.pause(made.info_hash)
        assert await one(client, "manualAnnounceTime") == -1


async def test_whom_a_client_said_it_is_came_by_its_word(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        engine = client.engine
        await engine.add(BOX)
        await engine.until(Checked)
        swarms, torrent = engine.session.swarms, engine.session.torrents[BOX.info_hash]
        names = {
            Source.INCOMING: "fromLtep",
            Source.KEPT: "fromCache",
            Source.PEX: "fromPex",
            Source.DHT: "fromDht",
            Source.TRACKER: "fromTracker",
        }
        async with connected(engine.address, BOX.info_hash, source="127.0.0.9"):
            await engine.until_true(lambda: BOX.info_hash in swarms.live, "live")
            swarm = swarms.live[BOX.info_hash]
            for number, (source, name) in enumerate(names.items()):

                def add(address: Address, source: Source = source) -> None:
                    swarm.add_addresses([address], source)

                peer_id = PeerId(b"-XX0000-%012d" % number)
                async with dialled(add, BOX.info_hash, peer_id):
                    await engine.until_true(lambda: len(swarm.peers) == 2, "both")
                    told = await one(client, "peersFrom")
                    assert (told.pop(name), told.pop("fromIncoming"), set(told.values())) == (1, 1, {0})
                await engine.until_true(lambda: len(swarm.peers) == 1, "one")
        assert torrent.reachable


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
        client.engine.session.checker._hashing._done[torrent] = [1, 4]
        assert await one(client, "recheckProgress") == 0.25
        del client.engine.session.checker._hashing._done[torrent]
        assert await one(client, "recheckProgress") == 0.0
