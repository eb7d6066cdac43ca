"""What the native API tells and takes of all torrents together, and of one torrent's pieces."""

import base64
from pathlib import Path
from typing import cast, get_type_hints

import httpx
import pytest
import trio

from bittern.control.access import Access
from bittern.control.api import Api
from bittern.control.common_limits import KEYS
from bittern.control.gate import Gate
from bittern.control.shapes import CommonLimits
from bittern.control.stream import REMEMBERED, Stream
from bittern.daemon.deliveries import Delivery, Run, dump_delivery
from bittern.daemon.overrides import UNDER
from bittern.daemon.spool import Spool
from bittern.engine.events import Checked, Completed, TorrentFacts
from bittern.policy.ordering import MOVED_AT_MOST
from bittern.proto import messages as m
from bittern.proto.bitfield import Bitfield
from bittern.terms import InfoHash
from tests.fakes.control import TestDaemon, controlling
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


def spool_with(engine: Engine, **states: str) -> Spool:
    """Deliveries by their ids, each in that state."""
    spool = Spool.below(Path(engine.settings.state))
    spool.load()
    for event_id, state in states.items():
        run = Run(command=("/bin/hook", "--token=secret"), timeout_s=1.0)
        facts = TorrentFacts(
            number=1, info_hash=InfoHash(bytes(20)), name="n", path="/p", folder="/", size_bytes=1, trackers=(),
            downloaded_bytes=0, labels=(),
        )  # fmt: skip
        made = Delivery(event="completed", event_id=event_id, reason="", at_wall=1.0, facts=facts, runs=[run])
        if state == "pending":
            spool.save(event_id, dump_delivery(made))
            continue
        run.ended(3 if state == "dead" else 0, "what it printed", 2.0)
        spool.finish(event_id, dump_delivery(made), dead=state == "dead")
    return spool


async def test_pieces_are_told_as_bits_and_counts(tmp_path: Path) -> None:
    made = make_torrent("one.bin", size=10 * 16384, piece_length=16384)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        engine.downloads.mkdir(exist_ok=True)
        (engine.downloads / "one.bin").write_bytes(made.payload[: 3 * 16384])
        await engine.add(made)
        await engine.until(Checked)
        path = f"/torrents/{made.info_hash.hex()}/pieces"
        told = await control.get(path)
        assert (told["count"], told["length"], told["wanted"], told["under_way"]) == (10, 16384, None, [])
        have = Bitfield.from_bytes(10, base64.b64decode(str(told["have"])))
        assert list(have.indices()) == [0, 1, 2]
        bits = Bitfield(10)
        bits.set(9)
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.pack_bitfield(bits.to_bytes()))
            swarms = engine.session.swarms.live
            await engine.until_true(
                lambda: any(peer.bits.count for peer in swarms[made.info_hash].peers), "its piece"
            )
            told = await control.get(path)
            assert base64.b64decode(str(told["availability"])) == bytes(9) + b"\1"


async def test_limits_for_all_are_told_and_set(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        told = await control.get("/limits")
        assert told["overrides"] == []
        changes = {"download_limited": True, "download_rate": 1000, "alt_enabled": False}
        answer = await control.client.patch("/api/v1/limits", json=changes)
        assert answer.status_code == 200
        assert answer.json()["limits"]["download_rate"] == 1000
        assert answer.json()["overrides"] == sorted(changes)
        assert engine.session.settings.download_rate == 1000
        assert (await control.get("/session"))["overrides"] == sorted(changes)
        back = {"download_limited": None, "download_rate": None, "upload_rate": None}
        answer = await control.client.patch("/api/v1/limits", json=back)
        assert answer.json()["overrides"] == ["alt_enabled"]
        assert engine.session.settings.download_rate is None


def test_every_limit_that_the_daemon_knows_may_be_set() -> None:
    assert set(KEYS) == set(UNDER) == set(get_type_hints(CommonLimits))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"\xff", b"[" * 5000, b'{"colour": 1}', b'{"download_rate": "1"}', b'{"download_rate": true}',
        b'{"download_rate": -1}', b'{"download_rate": NaN}', b'{"download_rate": 1e999}', b'{"alt_enabled": 1}',
        b'{"max_peers": 1.5}', b'{"max_peers": 0}', b'{"alt_days": 128}',
    ],
)  # fmt: skip
async def test_limits_that_cannot_be_change_nothing(body: bytes, tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        answer = await control.client.patch("/api/v1/limits", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
        assert (await control.get("/limits"))["overrides"] == []


async def test_torrents_are_moved_in_the_queue_together(tmp_path: Path) -> None:
    made = [make_torrent(f"{number}") for number in range(4)]
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        for one in made:
            await engine.add(one)
        hashes = [one.info_hash.hex() for one in made]
        answer = await control.client.post("/api/v1/queue", json={"torrents": hashes[2:], "to": "top"})
        assert answer.json() == {"places": {hashes[2]: 0, hashes[3]: 1}}
        rows = (await control.get("/torrents", fields="name,priority,rank"))["torrents"]
        assert isinstance(rows, list)
        by_place = sorted(rows, key=lambda row: (-row["priority"], row["rank"]))
        assert [row["name"] for row in by_place] == ["2", "3", "0", "1"]
        for body, status in (
            ({"torrents": hashes[:1], "to": "left"}, 400),
            ({"torrents": hashes[0], "to": "top"}, 400),
            ({"torrents": hashes[:1], "to": "top", "at": 1}, 400),
            ({"torrents": ["ab"], "to": "top"}, 404),
            ({"torrents": [None], "to": "top"}, 404),
            ({"torrents": ["00" * 20] * (MOVED_AT_MOST + 1), "to": "top"}, 400),
        ):
            assert (await control.client.post("/api/v1/queue", json=body)).status_code == status


async def test_deliveries_are_listed_and_told_again(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        spool = spool_with(engine, a="done", b="dead", c="pending")
        told = await control.get("/deliveries")
        assert told["counts"] == {"pending": 1, "done": 1, "dead": 1}
        assert isinstance(told["deliveries"], list)
        assert [one["id"] for one in told["deliveries"]] == ["c", "b", "a"]
        (dead,) = (await control.get("/deliveries", state="dead"))["deliveries"]  # type: ignore[misc]  # a list
        (hook,) = dead["hooks"]
        assert (hook["command"], hook["output"]) == (["/bin/hook", "--token=secret"], "what it printed")
        assert (await control.get("/deliveries", limit=0))["deliveries"] == []
        for query in ("state=lost", "limit=-1", "limit=1001", "limit=²"):
            assert (await control.client.get(f"/api/v1/deliveries?{query}")).status_code == 400
        for event_id, status in (("b", 200), ("c", 409), ("d", 404), ("..%2fdead%2fb", 404), ("%00", 404)):
            answer = await control.client.post(f"/api/v1/deliveries/{event_id}/replay")
            assert answer.status_code == status
        found, wrong = spool.take_replays()
        assert ([one.event_id for one in found], wrong) == (["b"], [])


async def test_what_a_hook_was_given_and_printed_is_for_who_may_steer(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        spool_with(engine, b="dead")
        app = Api(engine.session, TestDaemon(engine), Stream()).app()
        for access, full in (("read-only", False), ("full", True)):
            gate = Gate(app, access=cast("Access", access))
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(gate), base_url="http://localhost"
            ) as client:
                (told,) = (await client.get("/api/v1/deliveries")).json()["deliveries"]
                (hook,) = told["hooks"]
                command = ["/bin/hook", "--token=secret"]
                assert hook["command"] == (command if full else command[:1])
                assert hook["target"] == (" ".join(command) if full else command[0])
                assert hook["output"] == ("what it printed" if full else "")
                replayed = await client.post("/api/v1/deliveries/b/replay")
                assert replayed.status_code == (200 if full else 403)


async def test_what_happened_lately_is_told_to_who_comes_later(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        for number in range(3):
            control.stream.tell({"event": "torrent.added", "info_hash": f"{number}{'a' * 39}"})
        control.stream.tell({"event": "disk.low", "path": "/"})
        events = (await control.get("/log"))["events"]
        assert isinstance(events, list)
        assert [one["event"] for one in events] == ["torrent.added"] * 3 + ["disk.low"]
        (one,) = (await control.get("/log", torrent="1A"))["events"]  # type: ignore[misc]  # a list
        assert one["info_hash"][0] == "1"


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    stream = Stream()
    for number in range(REMEMBERED + 5):
        stream.tell({"event": "number", "number": number})
    assert (len(stream.recent), stream.recent[0]["number"]) == (REMEMBERED, 5)


async def test_room_is_told_by_file_system(tmp_path: Path) -> None:
    made = make_torrent("one.bin")
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        with trio.fail_after(60):
            while not (told := (await control.get("/session"))["volumes"]):
                await trio.sleep(0.01)
        (volume,) = told  # type: ignore[misc]  # a list
        assert volume["folders"] == [str(engine.downloads)]
        assert 0 < volume["free_bytes"] <= volume["size_bytes"]
