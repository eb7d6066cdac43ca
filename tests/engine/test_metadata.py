"""Torrents that come by a magnet link: their info dictionary is fetched from peers (BEP 9)."""

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from bittern.engine.events import Added, Checked, Completed, Described, Failed, PeerBanned, Removed
from bittern.engine.gathering import MetadataMemory
from bittern.engine.metadata import MetadataSwarm
from bittern.engine.metadata_peer import MOST_UNASKED_BYTES
from bittern.engine.torrent import State
from bittern.errors import MagnetError
from bittern.net.dialer import Dialer
from bittern.policy.add_terms import AddTerms
from bittern.policy.limits import Limits
from bittern.policy.rights import Rights
from bittern.policy.roster import Source
from bittern.policy.selection import Choice
from bittern.proto import messages as m
from bittern.proto.bencode import encode
from bittern.proto.extension import parse_extension_handshake
from bittern.proto.handshake import make_peer_id, pack_handshake
from bittern.proto.magnet import parse_magnet
from bittern.proto.metadata import (
    MAX_METADATA_BYTES,
    MetadataReject,
    MetadataRequest,
    pack_metadata_piece,
    pack_metadata_reject,
    pack_metadata_request,
    parse_metadata_message,
)
from bittern.terms import Address, InfoHash
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent


def link(made: Made, *peers: Address, more: str = "") -> str:
    named = "".join(f"&x.pe={peer}" for peer in peers)
    return f"magnet:?xt=urn:btih:{made.info_hash.hex()}&dn=A+name{named}{more}"


def info_of(made: Made) -> bytes:
    at = made.blob.index(b"4:info") + 6
    return made.blob[at:-1]


async def add(engine: Engine, text: str, **terms: object) -> str:
    result = await engine.session.add_magnet(text, AddTerms(str(engine.downloads), **terms))
    return result.kind


@asynccontextmanager
async def seeding(folder: Path, made: Made) -> AsyncIterator[Engine]:
    async with running(folder) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        yield engine


@pytest.fixture
def made() -> Made:
    return make_torrent(files=[("a", 500_000), ("b/c", 500_000)], piece_length=1024)


async def test_from_a_link_to_the_last_byte(tmp_path: Path, made: Made) -> None:
    assert len(info_of(made)) > 16384
    async with seeding(tmp_path / "seed", made) as seed, running(tmp_path / "leech") as leech:
        assert await add(leech, link(made, seed.address, more="&tr=http://t/a&ws=http://w/")) == "added"
        described = await leech.until(Described)
        assert described.from_peers
        assert (described.facts.name, described.facts.size_bytes) == (made.name, 1_000_000)
        assert leech.told(Added)[0].facts.name == "A name"
        await leech.until(Completed)
        assert made.is_at(leech.downloads)
        assert not leech.session.torrents[made.info_hash].record.magnet
        stored = (leech.folder / "state" / "torrents" / f"{made.info_hash.hex()}.torrent").read_bytes()
        assert info_of(made) in stored
        assert b"http://t/a" in stored
        assert b"8:url-listl9:http://w/e" in stored
    # and now it is a torrent like all others
    async with running(tmp_path / "leech") as again:
        (torrent,) = again.session.torrents.values()
        await again.until_true(lambda: torrent.state is State.SEEDING, "seeding")


async def test_a_second_link_brings_its_peers(tmp_path: Path, made: Made) -> None:
    async with seeding(tmp_path / "seed", made) as seed:
        nobody = Address("127.0.0.1", 1)
        async with running(tmp_path / "leech") as leech:
            await add(leech, link(made))
            (torrent,) = leech.session.torrents.values()
            await leech.until_true(lambda: torrent.state is State.METADATA, "seeking")
            assert await add(leech, link(made, nobody)) == "merged"
            assert await add(leech, link(made, nobody)) == "known"
        # they are on record
        async with running(tmp_path / "leech") as leech:
            (torrent,) = leech.session.torrents.values()
            assert parse_magnet(torrent.record.magnet).peers == (tuple(nobody),)
            assert await add(leech, link(made, seed.address)) == "merged"
            await leech.until(Described)
            await leech.until(Completed)
    # of one that is known by its .torrent too
    async with seeding(tmp_path / "again", made) as seed, running(tmp_path / "other") as other:
        await other.add(made)
        await other.until(Checked)
        assert await add(other, link(made, seed.address)) == "known"
        await other.until(Completed)


async def test_one_who_claims_that_it_is_public_is_not_believed_two_are(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, made: Made
) -> None:
    def shake(port: int, **more: int) -> bytes:
        told = {b"m": {b"ut_pex": 1, b"ut_metadata": 2}, b"p": port}
        return m.pack_extended(0, encode({**told, **{key.encode(): value for key, value in more.items()}}))

    async def heard_of_others(peer: ScriptedPeer) -> bool:
        with trio.move_on_after(5):
            while True:
                if (await peer.hear_until("extended"))[0] == 1:
                    return True
        return False

    async with running(tmp_path, dialer=Dialer()) as engine:
        await add(engine, link(made))
        (torrent,) = engine.session.torrents.values()
        await engine.until_true(lambda: torrent.state is State.METADATA, "seeking")
        async with (
            connected(engine.address, made.info_hash, seed=1, source="127.0.0.2") as listener,
            connected(engine.address, made.info_hash, seed=2, source="127.0.0.3") as witness,
        ):
            await listener.say(shake(7001))
            await witness.say(shake(7002, metadata_size=100_000))
            assert not await heard_of_others(listener)
            async with connected(engine.address, made.info_hash, seed=3, source="127.0.0.4") as other:
                await other.say(shake(7003, metadata_size=100_000))
                assert await heard_of_others(listener)


async def test_peers_that_come_to_us_are_asked_as_well(tmp_path: Path, made: Made) -> None:
    async with running(tmp_path / "leech") as leech, seeding(tmp_path / "seed", made) as seed:
        await add(leech, link(made))
        (torrent,) = leech.session.torrents.values()
        await leech.until_true(lambda: torrent.state is State.METADATA, "seeking")
        seed.session.swarms.wake(seed.session.torrents[made.info_hash])
        await seed.until_true(lambda: bool(seed.session.swarms.live), "a swarm")
        (swarm,) = seed.session.swarms.live.values()
        swarm.roster.add(leech.address, Source.TRACKER)
        swarm.dial_due()
        assert (await leech.until(Described)).from_peers


async def test_waits_over_a_restart_and_can_be_removed(tmp_path: Path, made: Made) -> None:
    async with running(tmp_path) as engine:
        await add(engine, link(made), tie=True, drop_path="/drop/x.magnet")
        record = tmp_path / "state" / "resume" / f"{made.info_hash.hex()}.toml"
        assert record.exists()
        assert engine.session.counts().metadata + engine.session.counts().torrents >= 1
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.METADATA, "seeking")
        assert engine.session.counts().metadata == 1
        assert engine.session.tied() == {"/drop/x.magnet": (made.info_hash,)}
        assert torrent.announce_facts().left > 0
        assert await engine.session.remove(made.info_hash, reason="test")
        assert engine.told(Removed)[0].facts.name == "A name"
        assert not record.exists()
        assert engine.session.tied() == {}
    async with running(tmp_path) as engine:
        assert not engine.session.torrents


async def test_can_be_removed_with_data_that_nobody_knows_yet(tmp_path: Path, made: Made) -> None:
    async with running(tmp_path) as engine:
        await add(engine, link(made))
        assert await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert engine.told(Removed)
    async with running(tmp_path) as engine:
        assert not engine.session.torrents


async def test_a_link_that_no_file_can_hold_is_written_down_as_far_as_it_goes(
    tmp_path: Path, made: Made
) -> None:
    async with running(tmp_path) as engine:
        assert await add(engine, f"  {link(made)}&dn=\ud800\n") == "added"
    async with running(tmp_path) as engine:
        assert engine.session.torrents.keys() == {made.info_hash}


async def test_a_damaged_record_still_knows_the_link(tmp_path: Path, made: Made) -> None:
    async with running(tmp_path) as engine:
        await add(engine, link(made))
    record = tmp_path / "state" / "resume" / f"{made.info_hash.hex()}.toml"
    record.write_bytes(record.read_bytes().replace(b"clean", b"c\xffean"))
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.METADATA, "seeking")
        assert torrent.record.name == "A name"
        await engine.session.pause(made.info_hash)
    record.write_bytes(record.read_bytes().replace(b"clean", b"c\xffean"))
    async with running(tmp_path) as engine:
        assert engine.session.torrents[made.info_hash].state is State.STOPPED


async def test_paused_and_let_go(tmp_path: Path, made: Made) -> None:
    async with seeding(tmp_path / "seed", made) as seed, running(tmp_path / "leech") as leech:
        await add(leech, link(made))
        torrent = leech.session.torrents[made.info_hash]
        await leech.until_true(lambda: torrent.state is State.METADATA, "seeking")
        await leech.session.pause(made.info_hash)
        assert torrent.state is State.STOPPED
        leech.session.addresses_found(torrent, (seed.address,))
        assert not leech.session.swarms.seeking
        await leech.session.resume(made.info_hash)
        await leech.until_true(lambda: torrent.state is State.METADATA, "seeking again")
        leech.session.addresses_found(torrent, (seed.address,))
        await leech.until(Completed)


async def test_a_torrent_that_is_dropped_meanwhile_wins(tmp_path: Path) -> None:
    made = make_torrent(trackers=[["http://own/announce"]])
    async with running(tmp_path) as engine:
        await add(engine, link(made, more="&tr=http://linked/a"), tie=True, drop_path="/drop/x.magnet")
        other = tmp_path / "elsewhere"
        other.mkdir()
        result = await engine.session.add(made.blob, AddTerms(str(other), label="films"))
        assert result.kind == "merged"
        described = await engine.until(Described)
        assert not described.from_peers
        torrent = engine.session.torrents[made.info_hash]
        assert torrent.record.trackers == (("http://linked/a",), ("http://own/announce",))
        assert (torrent.record.folder, torrent.record.label, torrent.record.tie) == (
            str(other),
            "films",
            False,
        )
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert not engine.session.swarms.seeking
        # the link again is a link to something known
        assert await add(engine, link(made, more="&tr=http://linked/a")) == "known"
        assert await add(engine, link(made, more="&tr=http://third/a")) == "merged"
        assert torrent.record.state == "downloading"
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")


async def test_what_is_said_of_the_torrent_counts_and_of_the_rest_what_was_said_of_the_link(
    tmp_path: Path,
) -> None:
    made = make_torrent("box", files=(("a.mkv", 40_000), ("b.nfo", 40_000), ("c.txt", 40_000)))
    async with running(tmp_path) as engine:
        folder, other = str(engine.downloads), str(tmp_path / "other")
        await add(
            engine,
            link(made, more="&so=0-1"),
            label="films",
            priority=3,
            limits={"max_peers": 7, "upload_rate": 5e6, "upload_limited": True},
            rights=Rights(file_mode=0o640),
            hooks=("unpack",),
        )
        record = engine.session.torrents[made.info_hash].record
        terms = AddTerms(
            other,
            folder_said=False,
            priority=9,
            limits={"download_limited": True, "upload_rate": 6e6, "upload_limited": True},
            rights=Rights(folder_mode=0o750),
            selection=Choice(skip=("*.nfo",)),
            sequential=True,
        )
        assert (await engine.session.add(made.blob, terms)).kind == "merged"
    async with running(tmp_path) as engine:
        record = engine.session.torrents[made.info_hash].record
        assert (record.folder, record.label, record.hooks) == (folder, "films", "unpack")
        assert (record.priority, record.sequential, record.rights) == (9, True, "file=0640 folder=0750")
        assert record.limits == Limits(
            max_peers=7, download_limited=True, upload_rate=6e6, upload_limited=True
        )
        assert (record.selection, record.choice) == ("n2-", "")


async def test_a_torrent_of_which_nothing_is_said_leaves_all_as_it_was(tmp_path: Path) -> None:
    made = make_torrent("box", files=(("a", 40_000), ("b", 40_000)))
    limits = {"download_rate": 1e6, "download_limited": True}
    async with running(tmp_path) as engine:
        await add(engine, link(made, more="&so=1"), priority=3, limits=limits)
        other = str(tmp_path / "other")
        await engine.session.add(made.blob, AddTerms(other))
        record = engine.session.torrents[made.info_hash].record
        assert (record.folder, record.priority, record.selection) == (other, 3, "-n")
        assert record.limits == Limits(**limits)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, (3, "films", "unpack", True)),
        ({"priority": 0}, (0, "films", "unpack", True)),
        ({"label": ""}, (3, "", "unpack", True)),
        ({"hooks": ()}, (3, "films", "", True)),
        ({"sequential": False}, (3, "films", "unpack", False)),
    ],
    ids=str,
)
async def test_what_is_said_to_be_none_is_said_like_anything(
    tmp_path: Path, said: dict[str, Any], kept: tuple[object, ...]
) -> None:
    made = make_torrent("box", files=(("a", 40_000), ("b", 40_000)))
    async with running(tmp_path) as engine:
        await add(engine, link(made), priority=3, label="films", hooks=("unpack",), sequential=True)
        await engine.session.add(made.blob, AddTerms(str(engine.downloads), **said))
        record = engine.session.torrents[made.info_hash].record
        assert (record.priority, record.label, record.hooks, record.sequential) == kept


async def test_limits_that_are_lifted_are_said_like_any(tmp_path: Path) -> None:
    made = make_torrent("box", files=(("a", 40_000), ("b", 40_000)))
    said = {"download_rate": 1e6, "download_limited": True, "max_peers": 7, "seed_ratio_mode": "never"}
    lifted = {"download_limited": False, "seed_ratio_mode": "rules"}
    async with running(tmp_path) as engine:
        await add(engine, link(made), limits=said)
        await engine.session.add(made.blob, AddTerms(str(engine.downloads), limits=lifted))
        assert engine.session.torrents[made.info_hash].record.limits == Limits(download_rate=1e6, max_peers=7)


async def test_a_choice_that_would_grow_too_long_is_the_later_one(tmp_path: Path) -> None:
    made = make_torrent("box", files=(("a", 40_000), ("b", 40_000)))
    async with running(tmp_path) as engine:
        await add(engine, link(made), selection=Choice(skip=tuple(f"{number}" for number in range(200))))
        await engine.session.add(made.blob, AddTerms(str(engine.downloads), selection=Choice(skip=("a",))))
        assert engine.session.torrents[made.info_hash].record.selection == "-n"


async def test_a_private_torrent_belongs_to_its_own_trackers_from_then_on(tmp_path: Path) -> None:
    made = make_torrent(private=True, trackers=[["http://own/announce"]])
    async with running(tmp_path) as engine:
        await add(engine, link(made, more="&tr=http://linked/a"))
        await engine.session.add(made.blob, AddTerms(str(engine.downloads)))
        torrent = engine.session.torrents[made.info_hash]
        assert torrent.private
        assert torrent.record.trackers == (("http://own/announce",),)
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")


async def test_a_link_that_is_none_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        with pytest.raises(MagnetError):
            await add(engine, "magnet:?dn=x")
        assert not engine.session.torrents


async def test_metadata_that_no_torrent_can_have_is_an_error(tmp_path: Path) -> None:
    # its hash is right, and that is all that is
    info = encode({b"name": b"x", b"piece length": 0, b"pieces": b"", b"length": 1})
    made = make_torrent()
    bad = Made(made.name, b"d4:info" + info + b"e", b"", 1, InfoHash(_sha1(info)), ())
    async with running(tmp_path) as engine, hostile(bad, "honest") as address:
        await add(engine, link(bad, address))
        failed = await engine.until(Failed)
        assert "its metadata cannot be used: its piece length" in failed.reason
        assert not list((tmp_path / "state" / "torrents").iterdir())


# -- hostile peers ------------------------------------------------------------------------------------------


def _sha1(blob: bytes) -> bytes:
    return hashlib.sha1(blob).digest()


@asynccontextmanager
async def hostile(
    made: Made, kind: str, *, host: str = "127.0.0.1", met: trio.Event | None = None
) -> AsyncIterator[Address]:
    """Listens, and answers for ut_metadata as it likes; `met` is set when somebody has introduced itself."""
    info = info_of(made)
    size = {"too long": MAX_METADATA_BYTES + 1, "longer": len(info) + 5, "shorter": len(info) - 5}.get(
        kind, len(info)
    )

    async def serve(stream: trio.SocketStream) -> None:
        heard = b""
        while len(heard) < 68:
            more = await stream.receive_some(68 - len(heard))
            if not more:
                return
            heard += more
        if met is not None:
            met.set()
        peer_id = make_peer_id(random.Random(f"{kind} {host}"), "9.9.9")
        told = {b"m": {b"ut_metadata": 3}, b"metadata_size": size}
        await stream.send_all(
            pack_handshake(made.info_hash, peer_id)
            + m.HAVE_ALL
            + m.pack_extended(0, encode(told if kind != "knows nothing" else {b"m": {}}))
        )
        if kind == "babbling":
            with trio.move_on_after(20):
                while True:
                    await stream.send_all(m.pack_extended(77, bytes(100_000)))
        buffer = b""
        number = 0
        while True:
            while len(buffer) < 4 or len(buffer) < 4 + int.from_bytes(buffer[:4]):
                more = await stream.receive_some(65536)
                if not more:
                    return
                buffer += more
            length = int.from_bytes(buffer[:4])
            message, buffer = buffer[4 : 4 + length], buffer[4 + length :]
            if message[:2] == b"\x14\x00":
                number = parse_extension_handshake(message[2:]).extensions["ut_metadata"]
            if message[:2] == b"\x14\x03":
                asked = parse_metadata_message(message[2:])
                if isinstance(asked, MetadataRequest):
                    for payload in answers(asked.piece):
                        await stream.send_all(m.pack_extended(number, payload))

    def answers(piece: int) -> list[bytes]:
        right = info[piece * 16384 : (piece + 1) * 16384]
        match kind:
            case "honest":
                return [pack_metadata_piece(piece, size, right)]
            case "garbage":
                return [pack_metadata_piece(piece, size, bytes(len(right)))]
            case "longer" | "shorter":
                return [pack_metadata_piece(piece, size, bytes(min(16384, size - 16384 * piece)))]
            case "rejecting":
                return [pack_metadata_reject(piece)]
            case "short piece":
                return [pack_metadata_piece(piece, size, right[:-1])]
            case "no bencode":
                return [b"\xff" * 100]
            case "bomb":
                return [b"d1:a" + b"l" * 15_000 + b"e" * 15_000]
            case "too much":
                return [pack_metadata_piece(piece, size, right + bytes(20_000))]
            case "unasked":
                return [pack_metadata_piece(piece, size, bytes(len(right)))] * 400
            case _:
                return []

    async def contained(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, contained, 0, host=host))
        yield Address(host, listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


HOSTILE = [
    "silent",
    "knows nothing",
    "too long",
    "longer",
    "shorter",
    "garbage",
    "rejecting",
    "short piece",
    "no bencode",
    "bomb",
    "too much",
    "unasked",
    "babbling",
]


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_peer_keeps_nobody_from_the_metadata(tmp_path: Path, made: Made, kind: str) -> None:
    async with running(tmp_path) as engine, AsyncExitStack() as stack:
        met = trio.Event()
        bad = await stack.enter_async_context(hostile(made, kind, host="127.0.0.2", met=met))
        await add(engine, link(made, bad))
        torrent = engine.session.torrents[made.info_hash]
        with trio.fail_after(90):
            await met.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
        if kind == "garbage":
            # else somebody honest may be quicker than what shows the lie
            await engine.until(PeerBanned)
        good = await stack.enter_async_context(hostile(made, "honest"))
        engine.session.addresses_found(torrent, (good,))
        await engine.until(Described)
        assert torrent.record.name == made.name
        if kind == "garbage":
            assert {told.host for told in engine.told(PeerBanned)} == {"127.0.0.2"}


async def test_messages_that_are_never_whole_are_bounded_over_all(
    tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bittern.engine.swarms.HELD_AT_MOST", 10_000)
    async with running(tmp_path) as engine:
        await add(engine, link(made))
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.METADATA, "seeking")
        async with connected(engine.address, made.info_hash) as peer:
            await peer.hear_until("extended")
            await peer.say(m.pack_extended(2, bytes(16_000))[:-1])
            await peer.until_gone()


async def test_a_swarm_that_could_not_begin_is_begun_again(
    tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def fail_once(*args: Any) -> MetadataSwarm:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError
        return MetadataSwarm(*args)

    monkeypatch.setattr("bittern.engine.swarms.MetadataSwarm", fail_once)
    async with running(tmp_path, strict=False) as engine, hostile(made, "honest") as good:
        await add(engine, link(made, good))
        await engine.until(Described)


async def test_whom_a_link_names_is_tried_again_when_nobody_else_is_known(
    tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    born = 0

    def count(*args: Any) -> MetadataSwarm:
        nonlocal born
        born += 1
        return MetadataSwarm(*args)

    monkeypatch.setattr("bittern.engine.swarms.MetadataSwarm", count)
    monkeypatch.setattr("bittern.engine.parking.SEEK_AGAIN_S", 0.02)
    monkeypatch.setattr("bittern.engine.metadata.LINGER_S", 0.01)
    monkeypatch.setattr("bittern.engine.metadata.BEAT_S", 0.01)
    monkeypatch.setattr("bittern.engine.heartbeat.BEAT_S", 0.01)
    async with running(tmp_path) as engine:
        await add(engine, link(made))
        await engine.until_true(lambda: born >= 3, "a third try")
        torrent = engine.session.torrents[made.info_hash]
        assert torrent.state is State.METADATA
        await engine.session.pause(made.info_hash)
        assert not engine.session.swarms._parking._due


@pytest.mark.parametrize("seconds", [0, 100])
async def test_who_was_refused_memory_is_remembered_for_a_moment(
    seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    memory = MetadataMemory(100)
    assert memory.credit(60)
    assert not memory.wanted(trio.current_time())
    assert not memory.credit(60)
    await trio.sleep(seconds)
    assert memory.wanted(trio.current_time()) is not bool(seconds)
    memory.give_back(60)
    assert memory.credit(100)


async def test_one_who_lies_about_all_of_it_is_banned(tmp_path: Path, made: Made) -> None:
    async with running(tmp_path) as engine, hostile(made, "garbage") as bad:
        await add(engine, link(made, bad))
        banned = await engine.until(PeerBanned)
        assert (banned.host, banned.piece) == ("127.0.0.1", None)
        torrent = engine.session.torrents[made.info_hash]
        assert torrent.state is State.METADATA
        swarm = engine.session.swarms.seeking.get(made.info_hash)
        assert swarm is None or (swarm.roster.banned("127.0.0.1") and len(swarm.roster) == 0)


async def test_who_asks_us_for_what_we_lack_is_told_so(tmp_path: Path, made: Made) -> None:
    async with running(tmp_path) as engine:
        await add(engine, link(made))
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.METADATA, "seeking")
        async with connected(engine.address, made.info_hash) as peer:
            told = parse_extension_handshake((await peer.hear_until("extended"))[1:])
            assert told.metadata_size is None
            await peer.say(
                m.pack_extended(0, encode({b"m": {b"ut_metadata": 9}})),
                m.pack_extended(told.extensions["ut_metadata"], pack_metadata_request(0)),
            )
            body = await peer.hear_until("extended")
            assert parse_metadata_message(body[1:]) == MetadataReject(0)
            assert body[0] == 9
            # what a seed says first, of however many pieces, is read over
            await peer.say(m.pack_bitfield(b"\xff" * 1000), m.UNCHOKE, m.pack_have(3))
            for _ in range(MOST_UNASKED_BYTES // 100_000 + 2):
                try:
                    await peer.say(m.pack_extended(200, bytes(100_000)))
                except trio.BrokenResourceError:
                    break
            await peer.until_gone()
