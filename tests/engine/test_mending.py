"""What bittern keeps of a torrent, lost or damaged: dropping the torrent again brings it back."""

from pathlib import Path

import pytest

from bittern.engine import failures
from bittern.engine.events import Added, Checked, Failed, Warned
from bittern.engine.store import Store
from bittern.engine.torrent import State
from bittern.errors import StateError
from bittern.policy.add_terms import AddTerms
from bittern.policy.tiers import Tiers
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent


@pytest.mark.parametrize("damage", ["lost", "garbage", "another"])
async def test_a_stored_torrent_comes_back_with_the_next_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    # Only the drop makes it try again, no pause that happens to end.
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 300.0)
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
    stored = tmp_path / f"state/torrents/{made.info_hash.hex()}.torrent"
    if damage == "lost":
        stored.unlink()
    else:
        stored.write_bytes(b"d4:infoi3ee" if damage == "garbage" else make_torrent("another").blob)
    async with running(tmp_path) as engine:
        failed = await engine.until(Failed)
        assert "drop" in failed.reason
        await engine.add(made)
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "it goes on")
        assert not engine.told(Added)
    assert stored.read_bytes() == made.blob


async def test_one_that_is_right_stays_as_it_was(tmp_path: Path) -> None:
    first, second = make_torrent(trackers=[["http://a.example/"]]), make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(first)
        await engine.until(Checked)
        await engine.add(second)
    assert (tmp_path / f"state/torrents/{first.info_hash.hex()}.torrent").read_bytes() == first.blob


async def test_a_damaged_record_with_nothing_to_hash_is_no_news(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    path.write_bytes(path.read_bytes()[:-40])
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "it goes on")
        assert not engine.told(Checked)


OTHERS = (("http://a.example/announce", "udp://b.example:80"), ("http://c.example/x?key=1",))


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("damage", ["stamps", "trackers"])
@pytest.mark.parametrize("others", [OTHERS, ()])
async def test_a_damaged_record_keeps_the_trackers_that_somebody_set(
    tmp_path: Path, damage: str, private: bool, others: Tiers
) -> None:
    own = (("http://own.example/announce",),)
    made = make_torrent(trackers=own, private=private)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        await engine.session.set_trackers(made.info_hash, lambda _: others)
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    blob = path.read_bytes()
    cut = (
        blob.index(b"stamps = ")
        if damage == "stamps"
        else blob.index(b"\n", blob.index(b"\ntrackers = ") + 1) - 1
    )
    path.write_bytes(blob[:cut] + b"\xff" + blob[cut + 1 :])
    async with running(tmp_path) as engine:
        record = engine.session.torrents[made.info_hash].record
        [warned] = engine.told(Warned)
        lost = damage == "trackers"
        assert (record.trackers, record.retiered) == ((own, False) if lost else (others, True))
        assert ("trackers that somebody gave it cannot be read" in warned.detail) is lost


async def test_trackers_that_came_with_another_drop_outlive_a_damaged_record(tmp_path: Path) -> None:
    made = make_torrent(trackers=[["http://own.example/announce"]])
    more = make_torrent(trackers=[["http://more.example/announce"]])
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        await engine.add(more)
        before = engine.session.torrents[made.info_hash].record.trackers
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    path.write_bytes(path.read_bytes()[:-40])
    async with running(tmp_path) as engine:
        record = engine.session.torrents[made.info_hash].record
        assert (record.trackers, record.retiered) == (before, False)
        assert len(before) == 2


async def test_nothing_but_trackers_is_read_where_a_damaged_record_seems_to_list_them(tmp_path: Path) -> None:
    made = make_torrent(trackers=[["http://own.example/announce"]], private=True)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    claims = b'trackers = [\n] \nprivate = false\nstate = "complete"\ngarbage = [\n]\n'
    path.write_bytes(claims + b"\xff")
    async with running(tmp_path) as engine:
        record = engine.session.torrents[made.info_hash].record
        assert (record.private, record.state) == (True, "downloading")


async def test_a_record_with_a_number_that_python_does_not_read_costs_no_start(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    path.write_bytes(path.read_bytes() + b"priority = " + b"9" * 5000 + b"\n")
    async with running(tmp_path) as engine:
        assert made.info_hash in engine.session.torrents
        assert not engine.bugs


def test_a_read_only_state_folder_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setenv("INVOCATION_ID", "under systemd")
    with pytest.raises(StateError, match=rf"systemctl edit bittern.*ReadWritePaths={tmp_path}") as caught:
        Store(str(tmp_path))
    assert "\n" not in str(caught.value)


async def test_pads_are_no_part_of_the_size(tmp_path: Path) -> None:
    from bittern.proto.bencode import decode, encode

    plain = make_torrent(files=[("a", 10_000), ("pad", 6384), ("b", 20_000)])
    top = decode(plain.blob)
    top[b"info"][b"files"][1][b"attr"] = b"p"
    async with running(tmp_path) as engine:
        for _ in range(2):
            result = await engine.session.add(encode(top), AddTerms(str(engine.downloads)))
        torrent = engine.session.torrents[result.info_hash]
        await engine.until(Checked)
        assert torrent.left_bytes == 36_384
        assert engine.told(Added)[0].facts.size_bytes == 30_000
    async with running(tmp_path) as engine:
        assert engine.session.torrents[result.info_hash].facts().size_bytes == 30_000
