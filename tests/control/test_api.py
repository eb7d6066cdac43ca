"""The native API over its real socket, with a real engine behind it."""

import json
import os
import stat
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from bittern.control.server import Occupied, open_socket
from bittern.control.stream import LISTENERS_AT_MOST, WAITING_AT_MOST
from bittern.control.views import FIELDS, LISTED
from bittern.engine.events import Added, Checked, Completed, Crashed, Moved, Removed
from bittern.proto import messages as m
from tests.fakes.control import controlling
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


async def test_a_torrent_from_its_adding_to_its_end(tmp_path: Path) -> None:
    made = make_torrent("one.bin", size=300_000)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        added = await control.client.post("/api/v1/torrents?label=films&label=hd", content=made.blob)
        assert added.status_code == 201
        assert added.json() == {"info_hash": made.info_hash.hex(), "name": "one.bin", "result": "added"}
        again = await control.client.post("/api/v1/torrents", content=made.blob)
        assert (again.status_code, again.json()["result"]) == (200, "known")
        await engine.until(Checked)
        (listed,) = (await control.get("/torrents"))["torrents"]
        assert tuple(listed) == LISTED
        assert (listed["state"], listed["progress"], listed["label"]) == ("downloading", 0.0, "films")
        assert listed["labels"] == ["films", "hd"]
        path = f"/api/v1/torrents/{made.info_hash.hex()}/labels"
        assert (await control.client.put(path, json=["hd", "seen"])).json()["labels"] == ["hd", "seen"]
        refused = [
            (await control.client.put(path, content=body)).json()["error"]
            for body in (b'["a", "b,c"]', b'"a"', b"[", b"[" * 10_000)
        ]
        assert {error["code"] for error in refused} == {"bad-label"}
        assert "comma" in refused[0]["message"]
        assert engine.session.torrents[made.info_hash].record.label == "hd,seen"
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            peers = await control.get(f"/torrents/{made.info_hash.hex()}/peers")
            assert [peer["address"] for peer in peers["peers"]] == ["127.0.0.1"]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seed.serve, made)
                await engine.until(Completed)
                nursery.cancel_scope.cancel()
        one = await control.get(f"/torrents/{made.info_hash.hex()[:6].upper()}")
        assert tuple(one) == tuple(FIELDS)
        assert (one["state"], one["progress"], one["left_bytes"]) == ("seeding", 1.0, 0)
        assert one["path"] == str(engine.downloads / "one.bin")
        (file,) = (await control.get(f"/torrents/{made.info_hash.hex()}/files"))["files"]
        assert (file["path"], file["length"], file["downloaded"], file["complete"]) == (
            "one.bin", 300_000, 300_000, True,
        )  # fmt: skip
        assert (await control.get("/session"))["complete"] == 1
        gone = await control.client.delete(f"/api/v1/torrents/{made.info_hash.hex()}")
        assert gone.status_code == 200
        assert engine.told(Removed)
        assert (await control.get("/torrents")) == {"torrents": []}
        assert made.is_at(engine.downloads)


async def test_a_torrent_is_moved_within_the_folders_of_the_configuration(tmp_path: Path) -> None:
    made = make_torrent("one.bin", size=300_000)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        move = f"/api/v1/torrents/{made.info_hash.hex()}/move"
        there = engine.downloads / "sub"
        told = await control.client.post(move, params={"folder": str(there)})
        assert told.status_code == 200
        assert told.json()["name"] == "one.bin"
        await engine.until(Moved)
        one = await control.get(f"/torrents/{made.info_hash.hex()}")
        assert (one["folder"], one["moving_to"], one["state"]) == (str(there), "", "seeding")
        for folder, status in ((str(tmp_path), 403), ("sub", 400), (f"{engine.downloads}/../x", 403)):
            assert (await control.client.post(move, params={"folder": folder})).status_code == status
        there.rename(engine.downloads / "other")
        look = {"folder": str(engine.downloads / "other"), "look": "true"}
        assert (await control.client.post(move, params=look)).status_code == 200
        await engine.until(Checked, 2)
    assert made.is_at(engine.downloads / "other")


async def test_files_tell_what_is_there_of_each(tmp_path: Path) -> None:
    made = make_torrent("part.bin", size=200_000, piece_length=65536)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        (engine.downloads).mkdir(exist_ok=True)
        (engine.downloads / "part.bin").write_bytes(made.payload[: 2 * 65536])
        await engine.add(made)
        await engine.until(Checked)
        (file,) = (await control.get(f"/torrents/{made.info_hash.hex()}/files"))["files"]
        assert (file["downloaded"], file["complete"]) == (2 * 65536, False)


async def test_a_recheck_finds_what_rotted_unnoticed(tmp_path: Path) -> None:
    made = make_torrent("rot.bin", size=300_000, piece_length=65536)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        engine.downloads.mkdir(exist_ok=True)
        path = engine.downloads / "rot.bin"
        path.write_bytes(made.payload)
        await engine.add(made)
        await engine.until(Completed)
        before = path.stat()
        with path.open("r+b") as file:
            file.seek(100_000)
            file.write(b"rotten")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        asked = await control.client.post(f"/api/v1/torrents/{made.info_hash.hex()}/recheck")
        assert asked.json()["state"] == "queued"
        found = await engine.until(Checked, 2)
        assert (found.complete, found.hashed_bytes) == (False, 300_000)
        one = await control.get(f"/torrents/{made.info_hash.hex()}")
        assert one["left_bytes"] == 65536
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seed.serve, made)
                await engine.until(Completed, 2)
                nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)


async def test_a_recheck_does_not_take_a_missing_disk_for_a_wish(tmp_path: Path) -> None:
    made = make_torrent("away.bin", size=100_000)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        engine.downloads.mkdir(exist_ok=True)
        path = engine.downloads / "away.bin"
        path.write_bytes(made.payload)
        await engine.add(made)
        await engine.until(Completed)
        path.rename(tmp_path / "elsewhere")
        where = f"/torrents/{made.info_hash.hex()}"
        await control.client.post(f"/api/v1{where}/recheck")
        await engine.until_true(
            lambda: engine.session.torrents[made.info_hash].error != "", "the torrent in error"
        )
        assert "nothing of 'away.bin' is left" in str((await control.get(where))["error"])
        (tmp_path / "elsewhere").rename(path)
        await control.client.post(f"/api/v1{where}/recheck")
        await engine.until_true(
            lambda: engine.session.torrents[made.info_hash].error == "", "the torrent well again"
        )


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/torrents/abcdef", 404, "no-torrent"),
        ("GET", "/torrents/nothex!", 404, "no-torrent"),
        ("GET", "/torrents?select=nobody", 404, "no-torrent"),
        ("GET", "/torrents?select=[", 404, "no-torrent"),
        ("GET", "/torrents?fields=name,colour", 400, "bad-field"),
        ("POST", "/torrents", 400, "bad-torrent"),
        ("POST", "/torrents?label=a,b", 400, "bad-label"),
        ("POST", "/torrents?downloads=/etc", 403, "foreign-folder"),
        ("POST", "/torrents?downloads=/mnt/films/../../etc", 403, "foreign-folder"),
        ("POST", "/torrents?downloads=/mnt/filmsandmore", 403, "foreign-folder"),
        ("DELETE", "/torrents/abcdef", 404, "no-torrent"),
        ("PUT", "/torrents", 405, "method-not-allowed"),
        ("GET", "/nothing", 404, "not-found"),
    ],
)
async def test_what_cannot_be_is_refused_in_one_line(
    method: str, path: str, status: int, code: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        response = await control.client.request(method, f"/api/v1{path}", content=b"nonsense")
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert response.json()["error"]["message"]


async def test_a_body_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.control.steering.MAX_METAINFO_BYTES", 100_000)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        async with await trio.open_unix_socket(control.path) as raw:
            head = b"POST /api/v1/torrents HTTP/1.1\r\nHost: bittern\r\nContent-Length: 1000000\r\n\r\n"
            await raw.send_all(head + bytes(200_000))
            assert (await raw.receive_some()).startswith(b"HTTP/1.1 413 ")
        assert not engine.told(Added)


async def test_a_bug_costs_its_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.control.looking.session_view", lambda _: 1 / 0)
    async with running(tmp_path, strict=False) as engine, controlling(engine, tmp_path) as control:
        response = await control.client.get("/api/v1/session")
        assert (response.status_code, response.json()["error"]["code"]) == (500, "bug")
        crash = await engine.until(Crashed)
        assert crash.where == "request of /api/v1/session"
        assert (await control.get("/torrents")) == {"torrents": []}


async def test_events_are_heard_as_they_happen(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        async with await trio.open_unix_socket(control.path) as raw:
            await raw.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: bittern\r\n\r\n")
            heard = b""
            while b": listening\n\n" not in heard:
                heard += await raw.receive_some()
            assert b"content-type: text/event-stream" in heard
            heard = b""
            control.stream.tell({"event": "torrent.added", "name": "bad \udce9"})
            while b"\n\n" not in heard:
                heard += await raw.receive_some()
            _, _, told = heard.partition(b"data: ")
            assert json.loads(told.splitlines()[0]) == {"event": "torrent.added", "name": "bad \udce9"}
        await engine.until_true(lambda: not control.stream._listeners, "nobody listening")


async def test_who_does_not_listen_loses_the_oldest(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        with control.stream.listening() as listener:
            for number in range(WAITING_AT_MOST + 5):
                control.stream.tell({"event": "number", "number": number})
            heard = await listener.hear(1)
            assert heard[:2] == [{"event": "events.lost", "count": 5}, {"event": "number", "number": 5}]
            assert await listener.hear(0) == []


async def test_no_more_listen_than_there_is_room_for(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        control.stream._listeners.update(object() for _ in range(LISTENERS_AT_MOST))  # type: ignore[arg-type]
        response = await control.client.get("/api/v1/events")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "busy")


def test_the_socket_is_for_our_user_and_group(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    for path in (tmp_path / "control.sock", deep / "control.sock"):
        with open_socket(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with pytest.raises(Occupied, match="another daemon"):
                open_socket(path)
        # what a dead process left
        with open_socket(path):
            pass
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(Occupied, match="no socket"):
        open_socket(tmp_path / "notes")


async def test_metrics_are_few_and_true(tmp_path: Path) -> None:
    made = make_torrent("one.bin")
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(made)
        await engine.until(Checked)
        control.stream.tell({"event": "torrent.added"})
        answer = await control.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        samples = {
            f"{sample.name}{sorted(sample.labels.values())}": sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        assert samples["bittern_torrents['downloading']"] == 1
        assert samples["bittern_torrents['seeding']"] == 0
        assert samples["bittern_left_bytes[]"] == len(made.payload)
        assert samples["bittern_events_total['torrent.added']"] == 1
        assert samples["process_resident_memory_bytes[]"] > 0
        assert samples["bittern_tasks[]"] > 1
        assert made.info_hash.hex() not in answer.text
        assert "one.bin" not in answer.text
        before = len(samples)
        for number in range(20):
            await engine.add(make_torrent(f"more-{number}"))
        answer = await control.client.get("/metrics")
        assert sum(len(family.samples) for family in text_string_to_metric_families(answer.text)) == before


async def test_readiness_is_a_heart_that_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.until_true(lambda: engine.session.heartbeat.last_beat_at > 0, "a beat")
        assert (await control.client.get("/readyz")).status_code == 200
        monkeypatch.setattr("bittern.control.looking.BEAT_LATE_S", -1.0)
        assert (await control.client.get("/readyz")).status_code == 503
        assert (await control.client.get("/healthz")).status_code == 200
