"""Transmission's RPC, in both its protocols, with a real engine behind it."""

import base64
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from bittern.control.transmission_fields import FIELDS, snake
from bittern.control.transmission_ids import Ids
from bittern.engine.events import Checked, Completed, Moved
from bittern.engine.torrent import State
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent
from tests.fakes.transmission_rpc import speaking

ONE = make_torrent("one.bin", size=300_000, piece_length=65536)
TWO = make_torrent("two.bin", size=100_000)


async def test_a_torrent_by_the_classic_protocol(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        metainfo = base64.b64encode(ONE.blob).decode()
        added = await client.ask("torrent-add", metainfo=metainfo, labels=["films"])
        assert added["torrent-added"] == {"id": 1, "name": "one.bin", "hashString": ONE.info_hash.hex()}
        again = await client.ask("torrent-add", metainfo=metainfo)
        assert again["torrent-duplicate"]["id"] == 1
        await client.engine.until(Checked)
        (seen,) = (
            await client.ask("torrent-get", ids=1, fields=["name", "status", "labels", "leftUntilDone"])
        )["torrents"]
        assert seen == {"name": "one.bin", "status": 4, "labels": ["films"], "leftUntilDone": 300_000}
        await client.ask("torrent-stop", ids=[ONE.info_hash.hex()])
        (seen,) = (await client.ask("torrent-get", ids=[1], fields=["status"]))["torrents"]
        assert seen == {"status": 0}
        await client.ask("torrent-start", ids=[1])
        (seen,) = (await client.ask("torrent-get", ids=[1], fields=["status"]))["torrents"]
        assert seen["status"] != 0
        await client.ask("torrent-remove", ids=[1])
        assert (await client.ask("torrent-get", fields=["id"])) == {"torrents": []}


async def test_every_field_in_both_formats_and_both_spellings(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        ONE.write(client.engine.downloads)
        await client.engine.add(ONE)
        await client.engine.until(Completed)
        (row,) = (await client.ask("torrent-get", fields=[*FIELDS, "noSuchField"]))["torrents"]
        assert list(row) == list(FIELDS)
        assert row["percentDone"] == 1.0
        assert row["files"] == [
            {"name": "one.bin", "length": 300_000, "bytesCompleted": 300_000, "beginPiece": 0, "endPiece": 5}
        ]
        names, values = (await client.ask("torrent-get", fields=["id", "name"], format="table"))["torrents"]
        assert (names, values) == (["id", "name"], [1, "one.bin"])
        told = await client.post(
            {
                "jsonrpc": "2.0",
                "id": "x",
                "method": "torrent_get",
                "params": {"fields": list(map(snake, FIELDS))},
            }
        )
        assert (told["jsonrpc"], told["id"]) == ("2.0", "x")
        (modern,) = told["result"]["torrents"]
        assert list(modern) == list(map(snake, FIELDS))
        assert modern["file_stats"][0]["bytes_completed"] == 300_000


async def test_data_is_deleted_as_far_as_it_is_ours(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        ONE.write(client.engine.downloads)
        await client.engine.add(ONE)  # found: not made by us
        await client.engine.until(Completed)
        await client.engine.add(TWO)
        await client.engine.until(Checked, 2)
        async with connected(client.engine.address, TWO.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seed.serve, TWO)
                await client.engine.until(Completed, 2)
                nursery.cancel_scope.cancel()
        assert TWO.is_at(client.engine.downloads)
        for number in (1, 2):
            await client.post(
                {"method": "torrent-remove", "arguments": {"ids": [number], "delete-local-data": True}}
            )
        assert not client.engine.session.torrents
        assert not (client.engine.downloads / "two.bin").exists()
        assert (client.engine.downloads / "one.bin").exists()


async def test_a_magnet_link(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        link = f"magnet:?xt=urn:btih:{ONE.info_hash.hex()}&dn=linked"
        added = await client.ask("torrent-add", filename=link)
        assert added["torrent-added"]["hashString"] == ONE.info_hash.hex()
        (row,) = (await client.ask("torrent-get", fields=list(FIELDS)))["torrents"]
        assert row["files"] == []
        (seen,) = (
            await client.ask("torrent-get", fields=["name", "metadataPercentComplete", "percentDone"])
        )["torrents"]
        assert seen == {"name": "linked", "metadataPercentComplete": 0.0, "percentDone": 0.0}
        shown = await client.control.get(f"/torrents/{ONE.info_hash.hex()}")
        assert (shown["progress"], shown["state"]) == (0.0, "metadata")
        again = await client.control.client.post("/api/v1/torrents", content=link)
        assert again.json()["result"] == "known"
        bad = await client.control.client.post("/api/v1/torrents", content="magnet:?xt=urn:btmh:1220")
        assert bad.status_code == 400
        checked = await client.control.client.post(f"/api/v1/torrents/{ONE.info_hash.hex()}/recheck")
        assert checked.status_code == 409
        await client.ask("torrent-remove", ids=[1])


async def test_what_changed_lately(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        await client.engine.add(ONE)
        await client.engine.add(TWO)
        recent = await client.ask("torrent-get", ids="recently-active", fields=["id"])
        assert recent == {"removed": [], "torrents": [{"id": 1}, {"id": 2}]}
        await client.ask("torrent-remove", ids=[2])
        recent = await client.ask("torrent-get", ids="recently-active", fields=["id"])
        assert recent == {"removed": [2], "torrents": [{"id": 1}]}


async def test_what_was_edited_while_it_is_parked_changed_lately(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        ONE.write(engine.downloads)
        await engine.add(ONE)
        await engine.until(Completed)
        session, ids = engine.session, Ids(engine.session)
        torrent = session.torrents[ONE.info_hash]
        edits: list[Callable[[], Awaitable[object]]] = [
            partial(session.rename, ONE.info_hash, "one.bin", "other.bin"),
            partial(session.set_labels, ONE.info_hash, ["films"]),
            partial(session.set_trackers, ONE.info_hash, lambda _: (("http://t.example/announce",),)),
            partial(session.select, ONE.info_hash, sequential=True),
        ]
        for number, edit in enumerate(edits):
            await engine.until_true(lambda: ONE.info_hash not in session.swarms.live, "parked")
            await ids.recent()
            # a while later
            ids._marks = {key: (look, -1000.0) for key, (look, _) in ids._marks.items()}
            assert await ids.recent() == ([], [])
            await edit()
            assert await ids.recent() == ([torrent], []), number


async def test_the_session_and_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(tmp_path) as client:
        told = await client.ask("session-get")
        assert told["rpc-version"] == 18
        assert told["download-dir"] == str(client.engine.downloads)
        assert told["speed-limit-down-enabled"] is False
        assert told["download-dir-free-space"] > 0
        await client.ask(
            "session-set", speed_limit_down=500, speed_limit_down_enabled=True, encryption="tolerated"
        )
        assert client.engine.session.settings.download_rate == 500_000
        assert (await client.ask("session-get", fields=["speed-limit-down"])) == {"speed-limit-down": 500}
        await client.ask("session-set", speed_limit_down_enabled=False)
        assert client.engine.session.settings.download_rate is None
        stats = await client.ask("session-stats")
        assert stats["torrentCount"] == 0
        with monkeypatch.context() as patched:
            yesterday = time.time() - 86_400
            patched.setattr(time, "time", lambda: yesterday)
            stats = await client.ask("session-stats")
        assert 0 <= stats["current-stats"]["secondsActive"] < 86_400, (
            "the clock was set back, and we are no younger"
        )
        free = await client.ask("free-space", path=str(client.engine.downloads))
        assert free["size-bytes"] > 0
        assert (await client.ask("group-get")) == {"group": []}


async def test_a_location_is_moved_to_or_looked_in(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        engine = client.engine
        ONE.write(engine.downloads)
        await engine.add(ONE)
        await engine.until(Completed)
        there = engine.downloads / "sub"
        await client.ask("torrent-set-location", ids=[1], location=str(there), move=True)
        await engine.until(Moved)
        assert ONE.is_at(there)
        assert (await client.ask("torrent-get", ids=[1], fields=["downloadDir"]))["torrents"] == [
            {"downloadDir": str(there)}
        ]
        there.rename(engine.downloads / "other")
        await client.ask("torrent-set-location", ids=[1], location=str(engine.downloads / "other"))
        torrent = engine.session.torrents[ONE.info_hash]
        await engine.until_true(lambda: torrent.state is State.SEEDING, "found there")
        assert torrent.facts().folder == str(engine.downloads / "other")
        assert ONE.is_at(engine.downloads / "other")


@pytest.mark.parametrize(
    ("method", "arguments", "says"),
    [
        ("torrent-get", {}, "no fields"),
        ("torrent-get", {"fields": "name"}, "no fields"),
        ("torrent-get", {"fields": ["name"], "ids": [1.5]}, "ids are"),
        ("torrent-remove", {}, "say which"),
        ("torrent-remove", {"ids": []}, "say which"),
        ("torrent-add", {"filename": "/etc/passwd"}, "metainfo"),
        ("torrent-add", {"metainfo": "not base64!"}, ""),
        ("torrent-add", {"metainfo": 7}, "no base64"),
        ("torrent-add", {"metainfo": "ZGU=", "download-dir": "/etc"}, "only"),
        ("torrent-set", {"ids": [1], "downloadLimited": "yes"}, "download_limited"),
        ("torrent-set", {"ids": [1], "seedRatioMode": 3}, "seed_ratio_mode"),
        ("torrent-set", {"ids": [1], "peer-limit": 1e300}, "peer_limit"),
        ("torrent-set", {"ids": [1], "group": "films"}, "group"),
        ("torrent-set-location", {"ids": [1], "location": "/etc"}, "only"),
        ("torrent-set-location", {"ids": [1], "location": "films"}, "absolute"),
        ("torrent-set-location", {"location": "/mnt/films", "move": True}, "say which"),
        ("session-set", {"download-dir": "/etc"}, "configuration file"),
        ("session-set", {"script-torrent-done-filename": "/tmp/evil"}, "configuration file"),
        ("session-set", {"speed-limit-down": -1}, "KB/s"),
        ("session-set", {"colour": "red"}, "no colour"),
        ("free-space", {"path": "/etc"}, "only"),
        ("session-close", {}, "stopped by"),
        ("port-test", {}, "no service"),
        ("no-such-method", {}, "not recognized"),
    ],
)
async def test_what_is_not_done_is_not_said_to_be(
    method: str, arguments: dict[str, Any], says: str, tmp_path: Path
) -> None:
    async with speaking(tmp_path) as client:
        await client.engine.add(ONE)
        assert says in await client.refused(method, **arguments)
        assert ONE.info_hash in client.engine.session.torrents


@pytest.mark.parametrize("body", [[], 7, None, {}, {"method": 7}, {"method": "torrent-get", "arguments": []}])
async def test_nonsense_is_answered(body: Any, tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        assert (await client.post(body))["result"] != "success"


async def test_errors_of_json_rpc(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        told = await client.post({"jsonrpc": "2.0", "id": 1, "method": "nothing"})
        assert told["error"]["code"] == -32601
        assert told["id"] == 1


async def test_a_file_is_renamed_by_either_api(tmp_path: Path) -> None:
    box = make_torrent("box", files=[("a", 40_000), ("sub/b", 50_000)])
    async with speaking(tmp_path) as client:
        box.write(client.engine.downloads)
        await client.engine.add(box)
        await client.engine.until(Completed)
        told = await client.ask("torrent-rename-path", ids=[1], path="box/sub/b", name="B")
        assert told == {"path": "box/sub/b", "name": "B", "id": 1}
        await client.ask("torrent-rename-path", ids=[1], path="box", name="crate")
        (seen,) = (await client.ask("torrent-get", fields=["name", "files"]))["torrents"]
        assert seen["name"] == "crate"
        assert [file["name"] for file in seen["files"]] == ["crate/a", "crate/sub/B"]
        rename = f"/api/v1/torrents/{box.info_hash.hex()}/rename"
        answer = await client.control.client.post(rename, json={"path": "sub", "name": "folder"})
        assert answer.json()["path"] == str(client.engine.downloads / "crate")
        assert (client.engine.downloads / "crate/folder/B").exists()
        for body, status in (
            ({"path": "sub", "name": "x"}, 400),
            ({"path": "a", "name": "../x"}, 400),
            ({"path": "a", "name": 7}, 400),
            ({"path": "a"}, 400),
            ([], 400),
        ):
            assert (await client.control.client.post(rename, json=body)).status_code == status, body
        (client.engine.downloads / "crate/mine").touch()
        taken = await client.control.client.post(rename, json={"path": "a", "name": "mine"})
        assert (taken.status_code, taken.json()["error"]["code"]) == (409, "not-renamed")
        assert "no file" in await client.refused("torrent-rename-path", ids=[1], path="x", name="y")
        assert "is no name" in await client.refused("torrent-rename-path", ids=[1], path="crate", name="a/b")
        assert "ids" in await client.refused("torrent-rename-path", path="crate", name="a")
        assert "texts" in await client.refused("torrent-rename-path", ids=[1], path="crate")


@pytest.mark.parametrize("asked_by", ["api", "rpc"])
async def test_no_label_and_any_order_may_be_said_over_a_link(tmp_path: Path, asked_by: str) -> None:
    """Of a torrent that came by a link; and what is not said leaves both."""
    other = make_torrent("other")
    async with speaking(tmp_path) as client:
        for made, words, arguments, kept in (
            (ONE, "?label=&sequential=false", {"labels": [], "sequential_download": False}, ("", False)),
            (other, "", {}, ("films", True)),
        ):
            magnet = f"magnet:?xt=urn:btih:{made.info_hash.hex()}"
            await client.control.client.post("/api/v1/torrents?label=films&sequential=true", content=magnet)
            if asked_by == "api":
                await client.control.client.post(f"/api/v1/torrents{words}", content=made.blob)
            else:
                metainfo = base64.b64encode(made.blob).decode()
                await client.ask("torrent-add", metainfo=metainfo, **arguments)
            record = client.engine.session.torrents[made.info_hash].record
            assert (record.state, record.label, record.sequential) == ("downloading", *kept)


async def test_labels_after_adding(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        await client.engine.add(ONE)
        await client.ask("torrent-set", ids=[1], labels=["films", "seen"])
        assert await client.ask("torrent-get", fields=["labels"]) == {
            "torrents": [{"labels": ["films", "seen"]}]
        }
        assert "comma" in await client.refused("torrent-set", ids=[1], labels=["a,b"])
        assert "list" in await client.refused("torrent-set", ids=[1], labels="a")
        await client.ask("torrent-set", ids=[1], labels=[])
        assert await client.ask("torrent-get", fields=["labels"]) == {"torrents": [{"labels": []}]}
