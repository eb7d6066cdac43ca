"""Transmission's RPC asked for what no client asks: it answers, and nothing grows or stands still."""

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from bittern.control import transmission_fields, turns
from bittern.control.transmission_fields import OF_FILES, snake
from bittern.engine.torrent import Torrent
from bittern.policy.limits import NO_LIMITS
from tests.fakes.control import Control, controlling
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent

ONE = make_torrent("one.bin")
DEEP = "[" * 800 + "]" * 800


async def post(control: Control, body: str) -> dict[str, Any]:
    url = "/transmission/rpc"
    session = (await control.client.post(url)).headers["X-Transmission-Session-Id"]
    answer = await control.client.post(
        url, content=body.encode(), headers={"X-Transmission-Session-Id": session}
    )
    assert answer.status_code == 200
    return dict(json.loads(answer.text, parse_constant=pytest.fail))


@pytest.mark.parametrize(
    "ids",
    ["[[1]]", "[{}]", "{}", "true", "[true]", "[null]", "[1.5]", "1e999", "NaN", DEEP, f"[{DEEP}]"],
)
@pytest.mark.parametrize("method", ["torrent-get", "torrent-stop", "torrent-verify", "torrent-remove"])
async def test_ids_of_odd_kinds(method: str, ids: str, tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        told = await post(
            control, f'{{"method": "{method}", "arguments": {{"fields": ["id"], "ids": {ids}}}}}'
        )
        assert "ids are" in told["result"]
        assert ONE.info_hash in engine.session.torrents


@pytest.mark.parametrize(
    ("tag", "echoed"),
    [("7", 7), ('"x"', "x"), (DEEP, None), ("NaN", None), ("1e999", None), ("{}", None), ("9" * 4000, None)],
)
async def test_odd_tags(tag: str, echoed: object, tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        classic = await post(control, f'{{"method": "session-stats", "tag": {tag}}}')
        modern = await post(control, f'{{"jsonrpc": "2.0", "method": "session_stats", "id": {tag}}}')
        assert (classic["result"], "error" in modern) == ("success", False)
        if len(tag) != 4000:
            assert (classic["tag"], modern["id"]) == (echoed, echoed)
        failed = await post(control, f'{{"jsonrpc": "2.0", "method": "nothing", "id": {tag}}}')
        assert failed["error"]["code"] == -32601


async def test_names_of_a_clients_own_are_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        await post(control, '{"method": "torrent-get", "arguments": {"fields": ["id"]}}')
        before = snake.cache_info().currsize
        long = "x" * 100_000
        told = await post(control, json.dumps({"method": "torrent-get", "arguments": {long: 1}}))
        assert "so long" in told["result"]
        many = {str(number): 1 for number in range(2000)}
        assert (
            "so many"
            in (await post(control, json.dumps({"method": "torrent-get", "arguments": many})))["result"]
        )
        told = await post(
            control, json.dumps({"method": "torrent-get", "arguments": {"fields": ["id", long, long + "y"]}})
        )
        assert told["arguments"]["torrents"] == [{"id": 1}]
        assert snake.cache_info().currsize == before


async def test_a_torrent_of_many_files_is_shown_by_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent("many", files=[(f"{number}.bin", 1) for number in range(2500)])
    threads = set()
    real = transmission_fields.file_views

    def seen(*terms: Any, **more: Any) -> Any:
        threads.add(threading.current_thread())
        return real(*terms, **more)

    monkeypatch.setattr(transmission_fields, "file_views", seen)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await post(
            control,
            json.dumps(
                {"method": "torrent-add", "arguments": {"metainfo": base64.b64encode(made.blob).decode()}}
            ),
        )
        fields = sorted(OF_FILES)
        plain = await post(
            control, json.dumps({"method": "torrent-get", "arguments": {"fields": [*fields, "name"]}})
        )
        (row,) = plain["arguments"]["torrents"]
        assert (row["name"], row["file-count"]) == ("many", 2500)
        assert [file["name"] for file in row["files"]] == [f"many/{number}.bin" for number in range(2500)]
        assert len(row["wanted"]) == len(row["priorities"]) == len(row["fileStats"]) == 2500
        table = await post(
            control,
            json.dumps(
                {"method": "torrent-get", "arguments": {"fields": ["id", "files"], "format": "table"}}
            ),
        )
        assert table["arguments"]["torrents"] == [["id", "files"], [1, row["files"]]]
        modern = await post(
            control,
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": "torrent_get", "params": {"fields": ["files"]}}),
        )
        assert modern["result"]["torrents"][0]["files"][-1]["bytes_completed"] == 0
        listed = await control.get(f"/torrents/{made.info_hash.hex()}/files")
        assert len(listed["files"]) == 2500  # type: ignore[arg-type]  # JSON's
    assert threading.main_thread() not in threads
    assert threads


@pytest.mark.parametrize(
    "path", ['"\\ud800"', '"DATA/\\ud800"', '"DATA/\\u0000"', "7", "[]", DEEP, '"DATA/../x"']
)
async def test_odd_paths(path: str, tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        asked = path.replace("DATA", str(engine.downloads))
        told = await post(control, f'{{"method": "free-space", "arguments": {{"path": {asked}}}}}')
        assert "only" in told["result"]


async def test_a_torrent_with_odd_trackers_names_and_labels(tmp_path: Path) -> None:
    made = make_torrent(
        "<img src=x onerror=alert(1)>\u202e\x1b[2J.bin",
        trackers=[
            ["http://[bad/announce", "http://a\u2100b.example/announce", "http://[::1]x:1/announce"],
            [
                "udp://tracker.example:99999/",
                "http://\r\nX: y/announce",
                "://",
                "http://./a",
                "http://" + "x" * 5000,
            ],
        ],
    )
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(made)
        told = await post(
            control,
            json.dumps({"method": "torrent-get", "arguments": {"fields": list(transmission_fields.FIELDS)}}),
        )
        assert told["arguments"]["torrents"][0]["id"] == 1
        await control.get(f"/torrents/{made.info_hash.hex()}/trackers")
        await control.get("/torrents", fields="name,trackers")


async def test_what_is_removed_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = make_torrent("two.bin")
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        await engine.add(two)
        session, steered = engine.session, []
        usual = session.recheck

        def recheck(torrent: Torrent) -> bool:
            steered.append(torrent.record.name)
            session.torrents.pop(two.info_hash, None)
            return usual(torrent)

        monkeypatch.setattr(session, "recheck", recheck)
        kept = session.torrents[two.info_hash]
        told = await post(control, json.dumps({"method": "torrent-verify", "arguments": {}}))
        session.torrents[two.info_hash] = kept
        assert (told["result"], steered) == ("success", ["one.bin"])


async def test_two_who_ask_for_what_changed_are_not_mixed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        asked = json.dumps(
            {"method": "torrent-get", "arguments": {"fields": ["id"], "ids": "recently-active"}}
        )
        told = []

        async def ask() -> None:
            told.append((await post(control, asked))["arguments"])

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask)
                await engine.add(make_torrent(f"{number}.bin"))
        assert len(told) == 8
        assert not any(one["removed"] for one in told)


@pytest.mark.parametrize(
    "wish",
    [
        *(
            f'"{name}": {value}'
            for name in ("downloadLimit", "seedRatioLimit", "peer-limit", "bandwidthPriority", "seedIdleMode")
            for value in ("9" * 400, "-1" + "0" * 400, "NaN", "1e999", "[]", '"1"')
        ),
        '"uploadLimit": 7, "queuePosition": -1',
        '"uploadLimit": 7, "queuePosition": 1.5',
        '"uploadLimit": 7, "files-wanted": [0, {}]',
    ],
)
async def test_limits_that_cannot_be_change_nothing(wish: str, tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        told = await post(control, f'{{"method": "torrent-set", "arguments": {{"ids": [1], {wish}}}}}')
        assert told["result"] != "success"
        assert engine.session.torrents[ONE.info_hash].record.limits == NO_LIMITS


@pytest.mark.parametrize("name", ["download_rate", "seed_ratio", "max_peers", "bandwidth_priority"])
@pytest.mark.parametrize("value", ["9" * 400, "-1" + "0" * 400, "NaN", "1e999", "1.5e300", "[]"])
async def test_limits_of_our_own_api_that_cannot_be(name: str, value: str, tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        answer = await control.client.patch(
            f"/api/v1/torrents/{ONE.info_hash.hex()}/limits", content=f'{{"{name}": {value}}}'.encode()
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad-limits")
        assert engine.session.torrents[ONE.info_hash].record.limits == NO_LIMITS


@pytest.mark.parametrize(
    "method", ["torrent-remove", "torrent-stop", "torrent-set-location", "queue-move-top", "torrent-set"]
)
async def test_all_are_not_meant_where_the_recently_active_ones_are(method: str, tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        rest = {
            "torrent-remove": ', "delete-local-data": true',
            "torrent-set": ', "uploadLimit": 7',
            "torrent-set-location": f', "location": "{engine.downloads}"',
        }.get(method, "")
        told = await post(
            control, f'{{"method": "{method}", "arguments": {{"ids": "recently-active"{rest}}}}}'
        )
        assert "name them" in told["result"]
        record = engine.session.torrents[ONE.info_hash].record
        assert (record.stopped, record.limits) == ("", NO_LIMITS)


async def test_fields_of_the_session_are_not_kept_either(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        asked = {"method": "session-get", "arguments": {"fields": ["version"]}}
        await post(control, json.dumps(asked))
        before = snake.cache_info().currsize
        asked["arguments"] = {"fields": [f"{'x' * 1000}{number}" for number in range(100)]}
        told = await post(control, json.dumps(asked))
        assert (told["result"], told["arguments"]) == ("success", {})
        assert snake.cache_info().currsize == before


@pytest.mark.parametrize("told", ["7", "true", '"x"', "[1]", "1.5"])
@pytest.mark.parametrize("method", ["torrent-stop", "torrent-remove", "session-set"])
async def test_arguments_that_are_none_steer_nothing(method: str, told: str, tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        answer = await post(control, f'{{"method": "{method}", "arguments": {told}}}')
        assert answer["result"] == "the arguments are no object"
        assert not engine.session.torrents[ONE.info_hash].record.stopped
