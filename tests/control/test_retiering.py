"""A torrent's trackers changed while it runs: by the native API, and by Transmission's RPC."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.control import controlling
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent
from tests.fakes.transmission_rpc import Client, speaking

A, B, C = "http://a.example/announce", "udp://b.example:6969/announce", "https://c.example/x"
MADE = make_torrent("one.bin", size=100_000, trackers=[[A], [B]])
WHERE = f"/torrents/{MADE.info_hash.hex()}"


async def urls(client: Client) -> str:
    (row,) = (await client.ask("torrent-get", fields=["trackerList", "trackers"]))["torrents"]
    ids = {one["id"]: one["announce"] for one in row["trackers"]}
    told = str(row["trackerList"])
    assert [ids[number] for number in range(len(ids))] == told.split()
    return told


async def test_trackers_are_added_and_removed_and_stay_so_over_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(MADE)
        patch = f"/api/v1{WHERE}/trackers"
        told = await control.client.patch(patch, json={"add": [C, A], "remove": [B]})
        assert told.status_code == 200, told.text
        assert {one["url"] for one in told.json()["trackers"]} == {A, C}
        for body in ({"add": ["ftp://a"]}, {"remove": [B]}, {"add": "x"}, {"more": []}, {}, [], {"tiers": 7}):
            refused = await control.client.patch(patch, json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad-trackers"), body
        assert (await control.client.patch(patch, content=b"{")).status_code == 400
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        assert (await control.get(WHERE))["trackers"] == [[A], [C]]
        # who set them meant it: a drop that is read again at each start brings none of them back
        await engine.add(MADE)
        assert (await control.get(WHERE))["trackers"] == [[A], [C]]
        assert {one.url for one in engine.session.torrents[MADE.info_hash].announce.trackers(0.0)} == {A, C}


async def test_transmissions_words_for_trackers(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        await client.engine.add(MADE)
        assert await urls(client) == f"{A}\n\n{B}"
        await client.ask("torrent-set", ids=[1], trackerList=f"{B}\n{C}\n\n{A}")
        assert await urls(client) == f"{B}\n{C}\n\n{A}"
        await client.ask("torrent-set", ids=[1], trackerRemove=[1])
        await client.ask("torrent-set", ids=[1], trackerAdd=[C])
        await client.ask("torrent-set", ids=[1], trackerReplace=[0, "http://d.example/a"])
        assert await urls(client) == f"http://d.example/a\n\n{A}\n\n{C}"
        await client.ask("torrent-set", ids=[1], trackerList="")
        assert await urls(client) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"trackerList": "nonsense"},
        {"trackerList": 7},
        {"trackerAdd": [7]},
        {"trackerAdd": "http://d.example/a"},
        {"trackerRemove": [2]},
        {"trackerRemove": [True]},
        {"trackerRemove": [-1]},
        {"trackerReplace": [0]},
        {"trackerReplace": [0, "ftp://d.example"]},
        {"trackerList": "\n".join(f"http://d.example/{number}" for number in range(201))},
    ],
)
async def test_what_are_no_trackers(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with speaking(tmp_path) as client:
        await client.engine.add(MADE)
        assert "track" in await client.refused("torrent-set", ids=[1], **wrong)
        assert "ids" in await client.refused("torrent-set", trackerAdd=[C])
        assert await urls(client) == f"{A}\n\n{B}"
