import os
from pathlib import Path

import pytest
import structlog
import trio

from bittern.daemon import intake as intake_module
from bittern.daemon import sweep
from bittern.daemon.drop_terms import Terms
from bittern.daemon.intake import Intake
from bittern.daemon.looks import look_at, stamp_of
from bittern.daemon.sweep import FolderState
from bittern.engine.supervision import Supervisor
from bittern.policy.add_terms import AddTerms
from tests.fakes.drops import DropSession, hash_of, put_aside, torrent


@pytest.fixture
def session():
    return DropSession()


@pytest.fixture
def intake(tmp_path, session, monkeypatch):
    monkeypatch.setattr(sweep, "LOOK_AGAIN_S", 0.02)
    monkeypatch.setattr(sweep, "SHORT_PATIENCE_S", 0.05)

    def make(after_add="move", tie=False, tell_hooks=None):
        terms = Terms(
            folder=str(tmp_path),
            after_add=after_add,
            downloads="/dl",
            incomplete="/inc",
            label="films",
            priority=3,
            tie=tie,
        )
        return Intake(terms, FolderState(), session, Supervisor(lambda event: None, strict=True), tell_hooks)

    return make


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as lines:
        yield lines


def events(log, name):
    return [line for line in log if line["event"] == name]


async def test_moved_once_the_session_has_it(tmp_path, intake, session, log):
    drop = tmp_path / "a.torrent"
    drop.write_bytes(torrent("1"))
    await intake().take_in("a.torrent")
    assert not drop.exists()
    assert (tmp_path / "accepted" / "a.torrent").read_bytes() == torrent("1")
    assert session.torrents[hash_of(torrent("1"))] == AddTerms(
        "/dl",
        incomplete="/inc",
        label="films",
        priority=3,
        tie=False,
        drop_path=str(drop),
        watch=str(tmp_path),
    )
    (line,) = events(log, "drop.accepted")
    assert line["path"] == str(drop)
    assert line["was"] == "added"


async def test_each_drop_has_its_own_terms_and_what_they_have_in_common(tmp_path, intake, session):
    taker = intake(after_add="keep", tie=True)
    for name in ("a", "b"):
        (tmp_path / f"{name}.torrent").write_bytes(torrent(name))
        await taker.take_in(f"{name}.torrent")
    for name in ("a", "b"):
        terms = session.torrents[hash_of(torrent(name))]
        path = str(tmp_path / f"{name}.torrent")
        assert terms == taker.terms.own(path)
        assert (terms.drop_path, terms.label, terms.tie) == (path, "films", True)


async def test_a_sidecar_that_comes_too_late_stays(tmp_path, intake, session, monkeypatch):
    real = session.add

    async def add(blob, terms):
        (tmp_path / "a.toml").write_text("label = 'late'")
        return await real(blob, terms)

    monkeypatch.setattr(session, "add", add)
    (tmp_path / "a.torrent").write_bytes(torrent("a"))
    await intake().take_in("a.torrent")
    # nobody who reads accepted/ is to think that it was followed
    assert sorted(os.listdir(tmp_path)) == ["a.toml", "accepted"]
    assert os.listdir(tmp_path / "accepted") == ["a.torrent"]


async def test_deleted_or_kept(tmp_path, intake, session):
    drop = tmp_path / "a.torrent"
    drop.write_bytes(torrent("1"))
    await intake("keep").take_in("a.torrent")
    assert drop.exists()
    await intake("delete").take_in("a.torrent")
    assert not drop.exists()
    assert not (tmp_path / "accepted").exists()
    assert len(session.torrents) == 1


async def test_a_drop_seen_again_after_a_crash_is_only_moved(tmp_path, intake, session, log):
    session.torrents[hash_of(torrent("1"))] = AddTerms("/dl")
    (tmp_path / "a.torrent").write_bytes(torrent("1"))
    await intake().take_in("a.torrent")
    assert (tmp_path / "accepted" / "a.torrent").exists()
    assert [line["was"] for line in events(log, "drop.accepted")] == ["known"]


async def test_nothing_is_overwritten(tmp_path, intake):
    taker = intake()
    for number in range(3):
        (tmp_path / "a.torrent").write_bytes(torrent(str(number)))
        await taker.take_in("a.torrent")
    assert {path.name: path.read_bytes() for path in (tmp_path / "accepted").iterdir()} == {
        "a.torrent": torrent("0"),
        "a.1.torrent": torrent("1"),
        "a.2.torrent": torrent("2"),
    }


async def test_faulty_is_refused_at_the_second_equal_look(tmp_path, intake, log):
    drop = tmp_path / "a.torrent"
    drop.write_bytes(b"<html>")
    taker = intake()
    await taker.take_in("a.torrent")
    assert drop.exists()
    await trio.sleep(0.03)
    await taker.take_in("a.torrent")
    assert not drop.exists()
    assert (tmp_path / "rejected" / "a.torrent").read_bytes() == b"<html>"
    assert (tmp_path / "rejected" / "a.torrent.reason.txt").read_text() == "not a dictionary\\nat all\n"
    (line,) = events(log, "drop.rejected")
    assert line["path"] == str(drop)
    assert line["reason"] == "not a dictionary\\nat all"


@pytest.mark.parametrize(("blob", "reason"), [(b"", "empty"), (b"d123", "ends too early")])
async def test_short_is_refused_after_its_patience(tmp_path, intake, log, blob, reason, autojump_clock):
    drop = tmp_path / "a.torrent"
    drop.write_bytes(blob)
    taker = intake()
    await taker.take_in("a.torrent")
    await trio.sleep(0.03)
    await taker.take_in("a.torrent")
    assert drop.exists()
    await trio.sleep(0.021)
    await taker.take_in("a.torrent")
    assert not drop.exists()
    assert reason in (tmp_path / "rejected" / "a.torrent.reason.txt").read_text()


async def test_a_huge_file_is_refused_unread(tmp_path, intake, session, monkeypatch):
    drop = tmp_path / "a.torrent"
    drop.touch()
    os.truncate(drop, 1 << 40)
    taker = intake()
    await taker.take_in("a.torrent")
    await trio.sleep(0.03)
    await taker.take_in("a.torrent")
    assert session.calls == []
    assert "1099511627776 bytes" in (tmp_path / "rejected" / "a.torrent.reason.txt").read_text()


async def test_big_files_are_taken_one_at_a_time(tmp_path, intake, session, monkeypatch):
    monkeypatch.setattr(intake_module, "BIG_BYTES", 10)
    taker = intake()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            (tmp_path / f"{number}.torrent").write_bytes(torrent("x" * 20 + str(number)))
            nursery.start_soon(taker.take_in, f"{number}.torrent")
    assert session.most_adding == 1
    assert len(session.torrents) == 5


async def test_no_room_in_the_state_folder_leaves_the_drop_and_is_told_once(tmp_path, intake, session, log):
    drop = tmp_path / "a.torrent"
    drop.write_bytes(torrent("1"))
    session.full = True
    taker = intake()
    await taker.take_in("a.torrent")
    await taker.take_in("a.torrent")
    assert drop.exists()
    assert len(events(log, "drop.waiting")) == 1
    session.full = False
    await taker.take_in("a.torrent")
    assert (tmp_path / "accepted" / "a.torrent").exists()


async def test_an_unreadable_file_stays_and_is_told_once(tmp_path, intake, log, monkeypatch):
    drop = tmp_path / "a.torrent"
    drop.write_bytes(torrent("1"))
    real_open = os.open

    def refuse(path, *args, **kwargs):
        if path == drop.name:
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    taker = intake()
    await taker.take_in("a.torrent")
    await taker.take_in("a.torrent")
    assert drop.exists()
    assert len(events(log, "drop.unreadable")) == 1


@pytest.mark.parametrize("blocker", ["accepted", "rejected"])
async def test_a_drop_that_cannot_be_moved_stays_and_is_known(tmp_path, intake, session, log, blocker):
    (tmp_path / blocker).write_text("a file where our folder should be")
    name = "a.torrent"
    (tmp_path / name).write_bytes(torrent("1") if blocker == "accepted" else b"<html>")
    taker = intake()
    await taker.take_in(name)
    await trio.sleep(0.03)
    if blocker == "rejected":
        await taker.take_in(name)
        assert len(events(log, "drop.rejected")) == 1
    assert (tmp_path / name).exists()
    (line,) = events(log, "watch.read_only")
    assert "keep" in line["remedy"]
    from bittern.daemon.watch import list_folder

    assert taker.state.sweep(list_folder(str(tmp_path)), {}, trio.current_time() + 1000).look == []


async def test_data_of_a_torrent_is_not_a_drop(tmp_path, intake, session, log):
    drop = tmp_path / "a.torrent"
    drop.write_bytes(torrent("1"))
    session.ours.add(str(drop))
    taker = intake()
    await taker.take_in("a.torrent")
    await taker.take_in("a.torrent")
    assert drop.exists()
    assert session.calls == []
    assert len(events(log, "drop.ignored")) == 1


async def test_a_tied_file_that_is_replaced_ends_its_former_torrent(tmp_path, intake, session):
    drop = tmp_path / "a.torrent"
    drop.write_bytes(torrent("1"))
    taker = intake("keep", tie=True)
    await taker.take_in("a.torrent")
    drop.write_bytes(torrent("2"))
    await taker.take_in("a.torrent")
    assert [info_hash for info_hash, _ in session.removed] == [hash_of(torrent("1"))]
    assert list(session.torrents) == [hash_of(torrent("2"))]


async def test_a_name_that_is_not_utf8_and_one_of_255_bytes(tmp_path, intake, session, log):
    odd = "\udcff\udcfe.torrent"
    long = "ü" * 123 + ".torrent"
    (tmp_path / odd).write_bytes(torrent("1"))
    (tmp_path / long).write_bytes(b"<html>")
    taker = intake()
    await taker.take_in(odd)
    assert (tmp_path / "accepted" / odd).exists()
    await taker.take_in(long)
    await trio.sleep(0.03)
    await taker.take_in(long)
    (line,) = events(log, "drop.rejected")
    assert Path(line["moved_to"]).read_bytes() == b"<html>"
    assert Path(line["moved_to"] + ".reason.txt").exists()
    assert line["path"] == str(tmp_path / long)


# ---------------------------------------------------------------------------------------- in threads


def test_looking_never_hangs_and_says_what_it_found(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"de")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert look_at(str(tmp_path / "fifo")).found == "odd"
    assert look_at(str(tmp_path / "loop")).found == "odd"
    assert look_at(str(tmp_path)).found == "odd"
    assert look_at("/dev/zero").found == "odd"
    assert look_at(str(tmp_path / "none")).found == "gone"
    assert look_at(str(tmp_path / "link")).blob == b"de"


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path, monkeypatch):
    path = tmp_path / "a.torrent"
    path.write_bytes(b"d" * 10)
    real_read = os.read

    def read_and_grow(fd, count):
        blob = real_read(fd, count)
        if blob:
            with path.open("ab") as file:
                file.write(b"e")
        return blob

    monkeypatch.setattr(os, "read", read_and_grow)
    assert look_at(str(path)).found == "changed"


def test_another_file_under_the_name_is_not_put_aside(tmp_path):
    path = tmp_path / "a.torrent"
    path.write_bytes(b"one")
    stamp = stamp_of(path.stat())
    path.write_bytes(b"other")
    assert put_aside(str(path), stamp, "accepted") is None
    assert path.exists()
    path.unlink()
    assert put_aside(str(path), stamp, "accepted") is None


def test_a_reason_left_by_a_crash_is_used_again(tmp_path):
    path = tmp_path / "a.torrent"
    path.write_bytes(b"one")
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "a.torrent.reason.txt").write_text("half")
    to = put_aside(str(path), stamp_of(path.stat()), "rejected", "bad")
    assert to == str(tmp_path / "rejected" / "a.torrent")
    assert Path(f"{to}.reason.txt").read_text() == "bad\n"


class Told:
    """Hooks that are told of refused drops, while their files lie as they were dropped."""

    def __init__(self, drop):
        self.drop = drop
        self.refusals = []
        self.durable = True

    async def __call__(self, refusal):
        assert self.drop.exists()
        await trio.sleep(0)
        self.refusals.append(refusal)
        return self.durable


async def test_hooks_are_told_of_a_refused_drop_before_it_is_touched(tmp_path, intake, log):
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "a.torrent").write_bytes(b"an older one")
    drop = tmp_path / "a.torrent"
    drop.write_bytes(b"<html>")
    told = Told(drop)
    told.durable = False
    taker = intake(tell_hooks=told)
    for _ in range(3):
        await taker.take_in("a.torrent")
        await trio.sleep(0.03)
    assert drop.exists()
    (waiting,) = events(log, "drop.waiting")
    assert "the state folder" in waiting["reason"]
    told.durable = True
    await taker.take_in("a.torrent")
    await trio.sleep(0.03)
    await taker.take_in("a.torrent")
    assert not drop.exists()
    *_, last = told.refusals
    assert last.path == str(tmp_path / "rejected" / "a.1.torrent")
    assert Path(last.path).read_bytes() == b"<html>"
    assert (last.drop_path, last.watch, last.label) == (str(drop), str(tmp_path), "films")
    assert "not a dictionary" in last.reason
    # the same file is the same event, however often it is tried
    assert len({one.event_id for one in told.refusals}) == 1
    assert last.event_id[14] == "7"


async def test_lines_that_are_refused_are_told_of_too(tmp_path, intake, session):
    drop = tmp_path / "a.magnet"
    drop.write_text(f"magnet:?xt=urn:btih:{'ab' * 20}\nhttp://not/a/link\n")
    told = Told(drop)
    taker = intake(tell_hooks=told)
    await taker.take_in("a.magnet")
    await trio.sleep(0.03)
    await taker.take_in("a.magnet")
    (one,) = told.refusals
    assert one.reason.startswith("line 2: ")
    assert one.path == str(tmp_path / "rejected" / "a.magnet")
    assert Path(one.path).read_text() == "http://not/a/link\n"
