"""Profiles, a sidecar and a receipt with the real process: dropped in a sub-folder, downloaded to where they say."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import Payload
from tests.fakes.processes import PATIENCE_S, wait_until

PayloadOf = Callable[..., Payload]


@pytest.fixture
def payload(payload_of: PayloadOf) -> Payload:
    return payload_of("sidecar", [300_000, 5, 777_000], 64 * 1024)


def test_a_sub_folder_a_profile_a_sidecar_and_a_receipt(tmp_path: Path, payload: Payload) -> None:
    seeder = Libtorrent(tmp_path / "seeder")
    seeder.seed_mode = True
    seeder.launch()
    seeder.add(payload.torrent(tmp_path), payload.folder)
    seeder.wait_whole()
    films = tmp_path / "films"
    films.mkdir()
    bittern = Bittern(tmp_path / "bittern", watch={"subfolders": True, "receipts": True})
    bittern.tables["hook"]["name"] = "told"
    folder = bittern.drop / "films" / "old"
    folder.mkdir(parents=True)
    profile = {"name": "films", "watch": [str(bittern.drop / "films")], "downloads": str(films)}
    profile["umask"] = "0027"
    extra = "".join(f"{key} = {json.dumps(value)}\n" for key, value in profile.items())
    bittern.write_config(f"[[profile]]\n{extra}")
    receipt = folder / "a.torrent.status.json"
    try:
        with bittern:
            (folder / "a.toml").write_text(
                'downloads = "old"\nlabel = "of-1960"\nhooks = ["told"]\nskip = ["*0002.bin"]\n'
                'file_mode = "0600"\n'
            )
            (folder / "part").write_bytes(payload.blob())
            (folder / "part").rename(folder / "a.torrent")
            bittern.wait("torrent.checked", complete=False)
            seeder.connect(bittern.port)
            bittern.wait("torrent.completed", info_hash=payload.info_hash)
            bittern.wait("hook.done", on="completed", exit_status=0)
            wait_until(
                lambda: receipt.exists() and json.loads(receipt.read_text())["state"] == "seeding",
                PATIENCE_S,
                "the receipt",
            )
    finally:
        seeder.stop()
    [told] = bittern.told("completed")
    assert told.env["BITTERN_LABEL"] == "of-1960"
    assert told.env["BITTERN_WATCH"] == str(folder)
    there = {path.name: path for path in (films / "old" / payload.name).rglob("*") if path.is_file()}
    assert sorted(there) == ["file 0000.bin", "file 0001.bin"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in there.values()} == {0o600}
    assert stat.S_IMODE((films / "old" / payload.name / "00").stat().st_mode) == 0o750
    for path in there.values():
        assert path.read_bytes() == (payload.folder / payload.name / "00" / path.name).read_bytes()
    said = json.loads(receipt.read_text())
    assert (said["percent"], said["path"]) == (100.0, str(films / "old" / payload.name))
    assert sorted(path.name for path in (folder / "accepted").iterdir()) == ["a.toml", "a.torrent"]
