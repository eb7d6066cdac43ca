"""Files of magnet links in a watched folder: one link a line, each with its own verdict."""

import pytest
import structlog
import trio

from bittern.daemon import sweep
from bittern.daemon.chronicle import Chronicle
from bittern.daemon.drop_terms import Terms
from bittern.daemon.intake import LINKS_AT_ONCE, REASONS_SHOWN, Intake
from bittern.daemon.logs import get_log
from bittern.daemon.looks import MAX_LINKS_BYTES, look_at
from bittern.daemon.magnet_lines import MAX_LINES, magnet_lines
from bittern.daemon.sweep import FolderState, is_drop_name, is_magnet_name
from bittern.engine.supervision import Supervisor
from bittern.policy.add_terms import AddTerms
from bittern.terms import InfoHash
from tests.fakes.drops import DropSession, torrent


def hash_no(n: int) -> InfoHash:
    return InfoHash(bytes([n]) * 20)


def link(n: int) -> str:
    return f"magnet:?xt=urn:btih:{hash_no(n).hex()}&dn=name+{n}"


@pytest.fixture
def session():
    return DropSession()


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def drop(tmp_path, session, monkeypatch):
    """Writes a file and has it taken in."""
    monkeypatch.setattr(sweep, "LOOK_AGAIN_S", 0.02)
    monkeypatch.setattr(sweep, "SHORT_PATIENCE_S", 0.05)
    terms = Terms(
        folder=str(tmp_path),
        after_add="move",
        downloads="/dl",
        incomplete="/inc",
        label="films",
        priority=3,
        tie=False,
    )

    async def taken_in(text, name="links.magnet", chronicle=None, **others):
        taker = Intake(
            Terms(**{**{key: getattr(terms, key) for key in Terms.__slots__}, **others}),
            FolderState(),
            session,
            Supervisor(lambda event: None, strict=True),
            chronicle=chronicle,
        )
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        await taker.take_in(name)
        await trio.sleep(0.06)
        await taker.take_in(name)
        return taker

    return taken_in


def events(log, name):
    return [line for line in log if line["event"] == name]


def test_which_files_hold_links():
    assert is_drop_name("a.magnet")
    assert is_drop_name("a.MAGNET")
    assert not is_drop_name(".a.magnet")
    assert not is_drop_name("a.magnet.part")
    assert is_magnet_name("a.Magnet")
    assert not is_magnet_name("a.torrent")


def test_the_lines_that_count():
    blob = b"\xef\xbb\xbf# of today\r\n\r\n  magnet:?one  \n#x\n\xffmagnet:?two"
    assert magnet_lines(blob) == {3: "magnet:?one", 5: "�magnet:?two"}
    assert magnet_lines(b"\n # \n") == {}


async def test_each_line_is_a_torrent(tmp_path, drop, session, log):
    await drop(f"# two of them\n{link(1)}\n\n{link(2)}\n")
    assert session.torrents.keys() == {hash_no(1), hash_no(2)}
    assert session.torrents[hash_no(1)] == AddTerms(
        "/dl",
        incomplete="/inc",
        label="films",
        priority=3,
        tie=False,
        drop_path=str(tmp_path / "links.magnet"),
        watch=str(tmp_path),
    )
    assert (tmp_path / "accepted" / "links.magnet").exists()
    assert not (tmp_path / "rejected").exists()
    (line,) = events(log, "drop.accepted")
    assert line["links"] == 2
    assert [line["name"] for line in events(log, "drop.link")] == ["name 1", "name 2"]


async def test_a_file_that_still_grows_is_waited_for(tmp_path, drop, session):
    taker = await drop(torrent("1"), name="other.torrent")
    path = tmp_path / "links.magnet"
    path.write_text(link(1)[:-3])
    await taker.take_in("links.magnet")
    path.write_text(f"{link(1)}\n{link(2)}\n")
    await taker.take_in("links.magnet")
    assert path.exists()
    assert hash_no(1) not in session.torrents
    await trio.sleep(0.03)
    await taker.take_in("links.magnet")
    assert {hash_no(1), hash_no(2)} <= session.torrents.keys()


async def test_lines_that_are_refused_are_set_aside(tmp_path, drop, session, log):
    v2 = f"magnet:?xt=urn:btmh:1220{'ab' * 32}"
    await drop(f"{link(1)}\nhttp://not.a/magnet\n{v2}\n")
    assert session.torrents.keys() == {hash_no(1)}
    assert (tmp_path / "accepted" / "links.magnet").exists()
    assert (tmp_path / "rejected" / "links.magnet").read_text() == f"http://not.a/magnet\n{v2}\n"
    reasons = (tmp_path / "rejected" / "links.magnet.reason.txt").read_text().splitlines()
    assert [reason.split(":")[0] for reason in reasons] == ["line 2", "line 3"]
    assert "v2" in reasons[1]
    told = events(log, "drop.rejected")
    assert [line["path"] for line in told] == [f"{tmp_path}/links.magnet:{n}" for n in (2, 3)]


async def test_of_very_many_bad_lines_those_who_read_along_hear_of_a_few(drop, log):
    """What is remembered of all that happens has less room than one file has lines."""
    heard = []
    chronicle = Chronicle(get_log(), heard.append)
    await drop(f"{link(1)}\n" + "magnet:?nothing\n" * 200, chronicle=chronicle)
    assert len(events(log, "drop.rejected")) == 200
    assert [line["event"] for line in heard] == ["drop.rejected"] * REASONS_SHOWN


async def test_a_kept_file_that_is_met_again_leaves_its_bad_lines_once(tmp_path, drop, session):
    for _ in range(3):
        await drop(f"{link(1)}\nbad\n", after_add="keep")
    assert (tmp_path / "links.magnet").exists()
    assert sorted(path.name for path in (tmp_path / "rejected").iterdir()) == [
        "links.magnet",
        "links.magnet.reason.txt",
    ]
    await drop(f"{link(1)}\nbad\nworse\n", after_add="keep")
    assert (tmp_path / "rejected" / "links.1.magnet").read_text() == "bad\nworse\n"


async def test_a_file_of_which_nothing_can_be_used_is_refused(tmp_path, drop, session, log):
    await drop("one\n\ntwo\n")
    assert not session.torrents
    assert (tmp_path / "rejected" / "links.magnet").read_text() == "one\n\ntwo\n"
    reasons = (tmp_path / "rejected" / "links.magnet.reason.txt").read_text().splitlines()
    assert [reason.split(":")[0] for reason in reasons] == ["line 1", "line 3"]
    assert len(events(log, "drop.rejected")) == 3


@pytest.mark.parametrize("text", ["\n", "# nothing but a comment\n"])
async def test_a_file_without_links_is_refused_after_its_patience(tmp_path, drop, text):
    await drop(text)
    reason = (tmp_path / "rejected" / "links.magnet.reason.txt").read_text()
    assert reason == "there is no magnet link in it\n"


async def test_a_file_that_is_too_long_for_links(tmp_path):
    path = tmp_path / "a.magnet"
    with path.open("wb") as file:
        file.truncate(MAX_LINKS_BYTES + 1)
    look = look_at(str(path))
    assert look.found == "too big"
    assert "a .magnet may have (8 MiB)" in look.reason


async def test_a_file_of_very_many_lines_is_refused_as_a_whole(tmp_path, drop, session, log):
    await drop(link(1) + "\n" * (MAX_LINES + 1))
    reason = (tmp_path / "rejected" / "links.magnet.reason.txt").read_text()
    assert reason == f"more than {MAX_LINES} lines, which no .magnet may have\n"
    assert not session.torrents


async def test_a_file_of_garbage_does_not_hold_up_the_loop(tmp_path, drop, session):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        taker = await drop(b"x\n" * 200)
        path = str(tmp_path / "links.magnet")
        before = turns
        await taker._take_links(path, dict.fromkeys(range(200), "x"), None)
        assert turns - before >= 190 / LINKS_AT_ONCE
        before = turns
        await taker._tell_refused(path, [(line, "no") for line in range(200)])
        # one for each line but perhaps the first and the last: who is first in a round is left to chance
        assert turns - before >= 190
        nursery.cancel_scope.cancel()


async def test_what_the_state_folder_refuses_is_tried_again(tmp_path, drop, session, log):
    session.full = True
    taker = await drop(f"{link(1)}\nbad\n")
    assert (tmp_path / "links.magnet").exists()
    (line,) = events(log, "drop.waiting")
    assert "no space left" in line["reason"]
    assert not (tmp_path / "rejected").exists()
    session.full = False
    await taker.take_in("links.magnet")
    await trio.sleep(0.03)
    await taker.take_in("links.magnet")
    assert session.torrents.keys() == {hash_no(1)}


async def test_a_tied_file_holds_all_its_torrents(tmp_path, drop, session):
    await drop(f"{link(1)}\n{link(2)}\n", after_add="keep", tie=True)
    path = str(tmp_path / "links.magnet")
    assert {one: set(hashes) for one, hashes in session.tied().items()} == {path: {hash_no(1), hash_no(2)}}
    await drop(f"{link(2)}\n{link(3)}\n", after_add="keep", tie=True)
    assert [info_hash for info_hash, _ in session.removed] == [hash_no(1)]
    assert session.torrents.keys() == {hash_no(2), hash_no(3)}


def test_a_tied_file_that_goes_takes_all_its_torrents_with_it():
    here = sweep.Identity(1, 2)
    stamp = sweep.Stamp(1, 1, 1)
    state = FolderState()
    both = {"links.magnet": (hash_no(1), hash_no(2))}
    there = sweep.Listing(here, [sweep.Entry("links.magnet", "file", stamp)])
    state.sweep(there, {}, 0)
    state.kept("links.magnet", stamp, hash_no(1), hash_no(2))
    state.sweep(there, both, 1)
    away = sweep.Listing(here, [])
    assert state.sweep(away, both, 2).gone == []
    assert state.sweep(away, both, 3).gone == [hash_no(1), hash_no(2)]


def test_a_link_that_went_to_another_file_is_not_gone():
    here = sweep.Identity(1, 2)
    stamp = sweep.Stamp(1, 1, 1)
    state = FolderState()
    both = {"links.magnet": (hash_no(1), hash_no(2))}
    names = ("links.magnet", "other.magnet")
    there = sweep.Listing(here, [sweep.Entry(name, "file", stamp) for name in names])
    state.sweep(there, {}, 0)
    state.kept("links.magnet", stamp, hash_no(1), hash_no(2))
    state.kept("other.magnet", stamp, hash_no(2))
    state.sweep(there, both, 1)
    left = sweep.Listing(here, [sweep.Entry("other.magnet", "file", stamp)])
    state.sweep(left, both, 2)
    assert state.sweep(left, both, 3).gone == [hash_no(1)]


async def test_a_link_that_stands_in_another_file_too_is_not_let_go(tmp_path, drop, session):
    one, two = tmp_path / "one.magnet", tmp_path / "two.magnet"
    one.write_text(f"{link(1)}\n{link(2)}\n")
    two.write_text(f"{link(2)}\n{link(3)}\n")
    taker = await drop(link(4), after_add="keep", tie=True)
    names = ("one.magnet", "two.magnet")

    async def look():
        for name in names:
            await taker.take_in(name)

    async def settle():
        await look()
        await trio.sleep(0.03)
        await look()

    await settle()
    # taken out of the one, and left in the other; and moved from the one to the other in a moment
    one.write_text("# nothing of old\n" + link(5))
    two.write_text(f"{link(2)}\n{link(3)}\n{link(1)}\n")
    await settle()
    assert session.removed == []
    assert {hash_no(n) for n in range(1, 6)} <= session.torrents.keys()


def test_a_link_that_was_taken_out_of_all_files_is_gone():
    here = sweep.Identity(1, 2)
    stamp = sweep.Stamp(1, 1, 1)
    state = FolderState()
    tied = {"one.magnet": (hash_no(1), hash_no(2))}
    there = sweep.Listing(here, [sweep.Entry(name, "file", stamp) for name in ("one.magnet", "two.magnet")])
    state.sweep(there, {}, 0)
    state.kept("one.magnet", stamp, hash_no(1))
    state.kept("two.magnet", stamp, hash_no(2))
    assert state.sweep(there, tied, 1).gone == []
    assert state.sweep(there, tied, 2).gone == []
    state.kept("two.magnet", stamp, hash_no(3))
    assert state.next_at() == 3
    state.sweep(there, tied, 3)
    assert state.sweep(there, tied, 4).gone == [hash_no(2)]
    # one that has changed is not decided yet
    changed = sweep.Listing(here, [sweep.Entry("one.magnet", "file", sweep.Stamp(2, 2, 2))])
    state.sweep(changed, tied, 5)
    state.trouble("one.magnet", sweep.Stamp(2, 2, 2), 5)
    state.sweep(changed, tied, 6)
    assert state.sweep(changed, tied, 7).gone == []
    # of one that was refused it is not known what is in it
    state.kept("one.magnet", stamp)
    state.sweep(there, tied, 8)
    assert state.sweep(there, tied, 9).gone == []
