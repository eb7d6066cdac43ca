"""Files of a torrent are chosen by Transmission's RPC and by the native API."""

import base64
from pathlib import Path

import pytest

from bittern.control.choosing import of_listed, rpc_choice
from bittern.engine.events import Checked
from bittern.errors import FileSelectionError
from bittern.policy.selection import Choice
from tests.fakes.control import controlling
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent
from tests.fakes.transmission_rpc import speaking

PIECE = 64 * 1024
MADE = make_torrent("t", files=(("a", PIECE), ("sub/b.nfo", PIECE), ("c", PIECE)), piece_length=PIECE)
FILES = (
    "wanted",
    "priorities",
    "fileStats",
    "sizeWhenDone",
    "leftUntilDone",
    "percentDone",
    "sequentialDownload",
)


def test_numbers_that_count_listed_files_only_stay_ranges() -> None:
    pads = frozenset(range(1, 200_000, 2))
    choice = of_listed(Choice(skip=((0, 99_999),) * 1000, take=("x", (5, 6))), pads, 200_000)
    assert choice.skip == ((0, 199_998),) * 1000
    assert choice.take == ("x", (10, 12))
    with pytest.raises(FileSelectionError, match="100000"):
        of_listed(Choice(low=((0, 100_000),)), pads, 200_000)


def test_a_transmission_client_unticks_a_hundred_thousand_files() -> None:
    assert rpc_choice({"files_unwanted": [*range(100_000)]}) == Choice(skip=((0, 99_999),))


async def test_a_transmission_client_chooses_files(tmp_path: Path) -> None:

    async with speaking(tmp_path) as client:
        await client.ask(
            "torrent-add",
            metainfo=base64.b64encode(MADE.blob).decode(),
            **{"files-unwanted": [1], "priority-high": [2]},
        )
        (row,) = (await client.ask("torrent-get", ids=[1], fields=list(FILES)))["torrents"]
        assert (row["wanted"], row["priorities"]) == ([1, 0, 1], [0, 0, 1])
        assert row["fileStats"][1] == {"bytesCompleted": 0, "wanted": False, "priority": 0}
        assert (row["sizeWhenDone"], row["leftUntilDone"], row["percentDone"]) == (2 * PIECE, 2 * PIECE, 0.0)
        arguments = {
            "files-wanted": [1],
            "files-unwanted": [0],
            "priority-low": [1],
            "sequential_download": True,
        }
        await client.ask("torrent-set", ids=[1], **arguments)
        (row,) = (await client.ask("torrent-get", ids=[1], fields=list(FILES)))["torrents"]
        assert (row["wanted"], row["priorities"], row["sequentialDownload"]) == ([0, 1, 1], [0, -1, 1], True)
        await client.ask("torrent-set", ids=[1], **{"files-wanted": [], "priority-normal": []})
        (row,) = (await client.ask("torrent-get", ids=[1], fields=list(FILES)))["torrents"]
        assert (row["wanted"], row["priorities"], row["sizeWhenDone"]) == ([1, 1, 1], [0, 0, 0], 3 * PIECE)
        for bad in (
            {"files-unwanted": [3]},
            {"files-wanted": ["0"]},
            {"priority-high": {}},
            {"priority-low": [-1]},
        ):
            told = await client.post({"method": "torrent-set", "arguments": {"ids": [1], **bad}})
            assert told["result"] != "success"
        told = await client.post({"method": "torrent-set", "arguments": {"files-unwanted": []}})
        assert "say which" in told["result"]


async def test_files_are_chosen_by_the_native_api(tmp_path: Path) -> None:
    path = f"/api/v1/torrents/{MADE.info_hash.hex()}/files"
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        added = await control.client.post("/api/v1/torrents?skip=*.nfo&sequential=true", content=MADE.blob)
        assert added.status_code == 201
        await engine.until(Checked)
        files = (await control.get(path.removeprefix("/api/v1")))["files"]
        assert [(one["wanted"], one["priority"]) for one in files] == [
            (True, "normal"), (False, "skip"), (True, "normal"),
        ]  # fmt: skip
        one = await control.get(f"/torrents/{MADE.info_hash.hex()}")
        assert (one["wanted_bytes"], one["left_bytes"], one["sequential"]) == (2 * PIECE, 2 * PIECE, True)
        told = await control.client.patch(path, json={"only": ["sub"], "high": [1], "sequential": False})
        assert told.status_code == 200
        files = (await control.get(path.removeprefix("/api/v1")))["files"]
        assert [one["priority"] for one in files] == ["skip", "high", "skip"]


@pytest.mark.parametrize(
    "bad",
    ["[", "[]", '{"skip": "x"}', '{"drop": [1]}', '{"skip": [9]}', '{"sequential": 1}', '{"high": [null]}'],
)
async def test_a_choice_that_makes_no_sense_is_refused(tmp_path: Path, bad: str) -> None:
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(MADE)
        told = await control.client.patch(f"/api/v1/torrents/{MADE.info_hash.hex()}/files", content=bad)
        assert (told.status_code, told.json()["error"]["code"]) == (400, "bad-selection")
