"""Limits of single torrents, as the clients of Transmission and ours ask for them, in their very words."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from bittern.cli.commands import bittern
from bittern.engine.events import Checked, Completed
from bittern.engine.torrent import State
from bittern.policy.limits import NO_LIMITS, Limits
from tests.fakes.control import controlling
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent
from tests.fakes.transmission_rpc import Client, speaking

ONE = make_torrent("one.bin", size=300_000, piece_length=65536)

SONARR_FIELDS = [
    "id", "hashString", "name", "downloadDir", "totalSize", "leftUntilDone", "isFinished", "eta", "status",
    "secondsDownloading", "secondsSeeding", "errorString", "uploadedEver", "downloadedEver", "seedRatioLimit",
    "seedRatioMode", "seedIdleLimit", "seedIdleMode", "fileCount",
]  # fmt: skip


async def test_what_sonarr_and_radarr_say(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        greeting = await client.control.client.get("/transmission/rpc")
        assert greeting.status_code == 409
        session_id = greeting.headers["X-Transmission-Session-Id"]

        async def ask(body: dict[str, Any]) -> dict[str, Any]:
            answer = await client.control.client.post(
                "/transmission/rpc", json=body, headers={"X-Transmission-Session-Id": session_id}
            )
            told = answer.json()
            assert told["result"] == "success", told
            return dict(told["arguments"])

        config = await ask({"method": "session-get"})
        assert {
            "rpc-version",
            "version",
            "download-dir",
            "seedRatioLimit",
            "seedRatioLimited",
        } <= config.keys()
        assert {"idle-seeding-limit", "idle-seeding-limit-enabled"} <= config.keys()
        ONE.write(client.engine.downloads)
        metainfo = base64.b64encode(ONE.blob).decode()
        await ask({"method": "torrent-add", "arguments": {"metainfo": metainfo, "paused": False}})
        digits = ONE.info_hash.hex().upper()
        seeding = {"seedRatioLimit": 1.5, "seedRatioMode": 1, "seedIdleLimit": 4320, "seedIdleMode": 1}
        await ask({"method": "torrent-set", "arguments": {"ids": [digits], **seeding}})
        await ask({"method": "queue-move-top", "arguments": {"ids": [digits]}})
        await client.engine.until(Completed)
        (told,) = (await ask({"method": "torrent-get", "arguments": {"fields": SONARR_FIELDS}}))["torrents"]
        assert told.keys() == set(SONARR_FIELDS)
        assert {key: told[key] for key in seeding} == seeding
        assert (told["status"], told["isFinished"], told["fileCount"]) == (6, False, 1)
        await ask({"method": "torrent-remove", "arguments": {"ids": [digits], "delete-local-data": False}})
        # whoever has his id and does not post is told so
        again = await client.control.client.get(
            "/transmission/rpc", headers={"X-Transmission-Session-Id": session_id}
        )
        assert again.status_code == 405


async def test_a_ratio_that_is_reached_finishes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.engine.seeding.LOOK_EVERY_S", 0.01)
    async with speaking(tmp_path) as client:
        ONE.write(client.engine.downloads)
        await client.engine.add(ONE)
        await client.engine.until(Completed)
        await client.post(
            {"method": "torrent-set", "arguments": {"ids": [1], "seedRatioLimit": 0, "seedRatioMode": 1}}
        )
        torrent = client.engine.session.torrents[ONE.info_hash]
        await client.engine.until_true(lambda: bool(torrent.record.stopped), "stopped")
        (told,) = (await client.ask("torrent-get", fields=["isFinished", "status"]))["torrents"]
        assert told == {"isFinished": True, "status": 0}


async def test_every_limit_by_either_spelling(tmp_path: Path) -> None:
    """As transmission-gtk and tremc set them, one by one or together, and as 4.1 spells them."""
    async with speaking(tmp_path) as client:
        await client.engine.add(ONE)
        record = client.engine.session.torrents[ONE.info_hash].record
        for arguments in (
            {"ids": [1], "downloadLimit": 50, "downloadLimited": True},
            {"ids": [1], "uploadLimit": 0, "uploadLimited": True},
            {"ids": [1], "honorsSessionLimits": False},
            {"ids": [1], "peer-limit": 7},
            {"ids": [1], "bandwidthPriority": -1},
            {"ids": [1], "seedIdleLimit": 30, "seedIdleMode": 2},
        ):
            assert (await client.post({"method": "torrent-set", "arguments": arguments}))[
                "result"
            ] == "success"
        assert record.limits == Limits(
            download_rate=50_000,
            download_limited=True,
            upload_limited=True,
            heeds_session=False,
            max_peers=7,
            bandwidth_priority=-1,
            seed_idle_mode="never",
        )
        modern = {"ids": [1], "seed_ratio_mode": 1, "seed_ratio_limit": 3, "upload_limited": False}
        body = {"jsonrpc": "2.0", "method": "torrent_set", "params": modern, "id": 1}
        assert "result" in await client.post(body)
        fields = ["download_limit", "peer_limit", "seed_ratio_limit", "upload_limited", "bandwidth_priority"]
        body = {"jsonrpc": "2.0", "method": "torrent_get", "params": {"fields": fields}, "id": 2}
        (told,) = (await client.post(body))["result"]["torrents"]
        assert list(told.values()) == [50, 7, 3.0, False, -1]


async def test_one_is_added_with_limits(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        metainfo = base64.b64encode(ONE.blob).decode()
        arguments = {"metainfo": metainfo, "peer-limit": 12, "bandwidthPriority": 1, "cookies": ""}
        assert (await client.post({"method": "torrent-add", "arguments": arguments}))["result"] == "success"
        limits = client.engine.session.torrents[ONE.info_hash].record.limits
        assert limits == Limits(max_peers=12, bandwidth_priority=1)


async def test_the_native_api(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        await engine.until(Checked)
        path = f"/api/v1/torrents/{ONE.info_hash.hex()[:8]}"
        told = (await control.client.patch(f"{path}/limits", json={"download_limited": True})).json()
        assert told["download_limited"] is True
        assert (await control.client.get(f"{path}/limits")).json() == told
        explained = (await control.client.get(f"{path}/explain")).json()
        assert explained["state"] == "downloading"
        assert "download: 0 bytes/s of its own" in explained["limits"]
        for wrong in (
            b"",
            b"[]",
            b'{"colour": 1}',
            b'{"max_peers": -1}',
            b'{"seed_ratio": 1e999}',
            b"{" * 2000,
        ):
            answer = await control.client.patch(f"{path}/limits", content=wrong)
            assert answer.status_code == 400, wrong
            assert answer.json()["error"]["code"] == "bad-limits"
        assert engine.session.torrents[ONE.info_hash].record.limits == Limits(download_limited=True)


async def test_the_commands(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        await engine.until(Checked)
        record = engine.session.torrents[ONE.info_hash].record

        async def run(*words: str) -> Result:
            def call() -> Result:
                return CliRunner().invoke(bittern, [words[0], "--socket", str(control.path), *words[1:]])

            return await trio.to_thread.run_sync(call)

        done = await run("limit", "one*", "--down", "1M", "--up", "0", "--ratio", "2.5", "--idle", "3h")
        assert done.exit_code == 0, done.output
        assert "down 1.0 MiB/s, up 0 bytes/s, ratio 2.5, idle 3 h" in done.output
        assert (record.limits.download, record.limits.upload) == (1 << 20, 0)
        assert (await run("limit", "one*", "--down", "500 KB/s", "--priority", "high")).exit_code == 0
        assert record.limits.download == 500_000
        undone = (
            "--down",
            "none",
            "--up",
            "none",
            "--ratio",
            "rules",
            "--idle",
            "rules",
            "--priority",
            "normal",
        )
        told = await run("limit", ONE.info_hash.hex()[:6], *undone, "--json")
        assert json.loads(told.output)[0]["limits"]["download_limited"] is False
        assert record.limits.moves_as_others
        assert record.limits.seeds_by_rules
        assert "no limits of its own" in (await run("limit", "one*")).output
        assert (await run("limit", "one*", "--down", "fast")).exit_code == 64
        assert (await run("limit", "one*", "--ratio", "-1")).exit_code == 64
        assert (await run("limit", "nobody*", "--ratio", "1")).exit_code == 66
        explained = await run("explain", "one*")
        assert explained.exit_code == 0, explained.output
        assert "looks for peers" in explained.output
        assert json.loads((await run("explain", "one*", "--json")).output)[0]["rule"] is None
        assert json.loads((await run("top", "--json")).output) == []
    assert NO_LIMITS.moves_as_others


async def test_limits_for_all(tmp_path: Path) -> None:
    """As transmission-remote, transmission-gtk and web clients set them; each is told back, and kept."""
    wanted = {
        "alt-speed-down": 50,
        "alt-speed-enabled": False,
        "alt-speed-time-begin": 60,
        "alt-speed-time-day": 65,
        "alt-speed-time-enabled": False,
        "alt-speed-time-end": 1439,
        "alt-speed-up": 0,
        "download-queue-enabled": True,
        "download-queue-size": 3,
        "idle-seeding-limit": 20,
        "idle-seeding-limit-enabled": True,
        "peer-limit-global": 90,
        "peer-limit-per-torrent": 30,
        "queue-stalled-enabled": True,
        "queue-stalled-minutes": 12,
        "seed-queue-enabled": True,
        "seed-queue-size": 4,
        "seedRatioLimit": 1.5,
        "seedRatioLimited": True,
        "speed-limit-down": 0,
        "speed-limit-down-enabled": True,
        "speed-limit-up": 20,
        "speed-limit-up-enabled": True,
    }
    async with speaking(tmp_path) as client:
        for key, value in wanted.items():
            told = await client.post({"method": "session-set", "arguments": {key: value}})
            assert told["result"] == "success", told
        told = await client.ask("session-get")
        assert {key: told[key] for key in wanted} == wanted
        settings = client.engine.session.settings
        assert (settings.download_rate, settings.upload_rate) == (0.0, 20_000.0)
        assert (settings.max_downloads, settings.max_seeds, settings.max_peers) == (3, 4, 90)
        assert [rule.name for rule in settings.seed_rules] == ["idle limit for all", "ratio limit for all"]
        # transmission-gtk's turtle
        await client.post({"method": "session-set", "arguments": {"alt-speed-enabled": True}})
        assert client.engine.session.settings.download_rate == 50_000.0
        for key in ("alt-speed-time-begin", "alt-speed-time-day", "peer-limit-global", "download-queue-size"):
            assert await client.refused("session-set", **{key: 1e9})
            assert await client.refused("session-set", **{key: 1.5})
        assert (tmp_path / "state" / "overrides.toml").exists()
        session = (await client.control.client.get("/api/v1/session")).json()
        assert session["limits"]["max_seeds"] == 4
        assert "max_seeds" in session["overrides"]


async def test_places_in_the_queue(tmp_path: Path) -> None:
    """Who waits comes as he was moved, also after a restart; who runs stays."""
    made = [make_torrent(f"{name}.bin", size=65536) for name in "abcd"]

    async def line(client: Client) -> str:
        rows = (await client.ask("torrent-get", fields=["name", "queuePosition", "status"]))["torrents"]
        assert sorted(row["queuePosition"] for row in rows) == [0, 1, 2, 3]
        return "".join(row["name"][0] for row in sorted(rows, key=lambda row: row["queuePosition"]))

    async with running(tmp_path, max_downloads=1) as engine, controlling(engine, tmp_path) as control:
        client = Client(control, engine)
        for number, one in enumerate(made, 1):
            await engine.add(one)
            # whoever is checked first has the first turn
            await engine.until(Checked, number)
        assert await line(client) == "abcd"
        a, b, c, d = (one.info_hash.hex() for one in made)
        await client.ask("queue-move-top", ids=[d])
        assert await line(client) == "dabc"
        await client.ask("queue-move-down", ids=[a])
        await client.ask("queue-move-up", ids=[c])
        assert await line(client) == "dbca"
        await client.ask("queue-move-bottom", ids=[b])
        assert await line(client) == "dcab"
        told = await client.post({"method": "torrent-set", "arguments": {"ids": [a], "queuePosition": 1}})
        assert told["result"] == "success"
        assert await line(client) == "dacb"
        await client.ask("queue-move-up")
        assert await line(client) == "dacb"
        torrents = engine.session.torrents
        assert torrents[made[0].info_hash].state is State.DOWNLOADING
        await engine.session.pause(made[0].info_hash)
        await engine.until_true(
            lambda: torrents[made[3].info_hash].state is State.DOWNLOADING, "the next one"
        )
        (row,) = (await client.ask("torrent-get", ids=[c], fields=["status"]))["torrents"]
        assert row["status"] == 3
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        assert await line(Client(control, engine)) == "dacb"


async def test_started_now_it_waits_for_no_turn_until_it_is_stopped(tmp_path: Path) -> None:
    others = [make_torrent(f"{number}.bin", seed=number) for number in range(3)]
    async with running(tmp_path, max_downloads=1) as engine, controlling(engine, tmp_path) as control:
        client = Client(control, engine)
        for number, made in enumerate(others, 1):
            await engine.add(made)
            await engine.until(Checked, number)

        async def stand(wanted: str) -> None:
            letters = {State.DOWNLOADING: "d", State.QUEUED: "q"}
            torrents = engine.session.torrents
            await engine.until_true(
                lambda: (
                    "".join(letters.get(torrents[made.info_hash].state, "?") for made in others) == wanted
                ),
                wanted,
            )

        await stand("dqq")
        await client.ask("torrent-start", ids=[2])
        await stand("dqq")
        await client.ask("torrent-start-now", ids=[2])
        await stand("ddq")
        await client.ask("torrent-stop", ids=[2])
        await client.ask("torrent-start", ids=[2])
        await stand("dqq")
        assert not engine.session.torrents[others[1].info_hash].record.forced
        await client.ask("torrent-stop", ids=[3])
        await client.ask("torrent-start-now", ids=[3])
        await stand("dqd")


async def test_how_long_until_an_idle_limit_ends_it(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        ONE.write(client.engine.downloads)
        metainfo = base64.b64encode(ONE.blob).decode()
        await client.ask("torrent-add", metainfo=metainfo)
        await client.engine.until(Completed)

        async def eta_idle() -> int:
            (row,) = (await client.ask("torrent-get", fields=["etaIdle"]))["torrents"]
            return int(row["etaIdle"])

        assert await eta_idle() == -1
        await client.post(
            {"method": "torrent-set", "arguments": {"ids": [1], "seedIdleLimit": 60, "seedIdleMode": 1}}
        )
        assert 0 < await eta_idle() <= 3600
