"""Info dictionaries given to those who came by a magnet link (BEP 9)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bittern.engine.events import Completed
from bittern.engine.metadata_uploads import SPARE, TIMES
from bittern.proto import messages as m
from bittern.proto.bencode import encode
from bittern.proto.extension import parse_extension_handshake
from bittern.proto.metadata import (
    MetadataMessage,
    MetadataPiece,
    MetadataReject,
    pack_metadata_request,
    parse_metadata_message,
)
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent

THEIRS = 9


@asynccontextmanager
async def seeding(folder: Path, made: Made) -> AsyncIterator[Engine]:
    async with running(folder) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        yield engine


async def shake(peer: ScriptedPeer) -> tuple[int, int]:
    """Gives our number for their requests, and the length."""
    told = parse_extension_handshake((await peer.hear_until("extended"))[1:])
    await peer.say(m.pack_extended(0, encode({b"m": {b"ut_metadata": THEIRS}})))
    return told.extensions["ut_metadata"], told.metadata_size or 0


async def answer(peer: ScriptedPeer) -> MetadataMessage | None:
    body = await peer.hear_until("extended")
    assert body[0] == THEIRS
    return parse_metadata_message(body[1:])


@pytest.fixture
def made() -> Made:
    made = make_torrent(size=1_000_000, piece_length=1024, trackers=[["http://a/announce"]])
    assert len(info_of(made)) > 16384
    return made


def info_of(made: Made) -> bytes:
    at = made.blob.index(b"4:info") + 6
    return made.blob[at:-1]


async def test_given_piece_by_piece_and_not_for_ever(tmp_path: Path, made: Made) -> None:
    info = info_of(made)
    async with seeding(tmp_path, made) as engine, connected(engine.address, made.info_hash) as peer:
        number, length = await shake(peer)
        assert length == len(info)
        for piece in range(2):
            await peer.say(m.pack_extended(number, pack_metadata_request(piece)))
            body = info[piece * 16384 : (piece + 1) * 16384]
            assert await answer(peer) == MetadataPiece(piece, length, body)
        await peer.say(m.pack_extended(number, pack_metadata_request(2)))
        assert await answer(peer) == MetadataReject(2)
        for _ in range(TIMES * 2 + SPARE - 2):
            await peer.say(m.pack_extended(number, pack_metadata_request(0)))
            assert isinstance(await answer(peer), MetadataPiece)
        await peer.say(m.pack_extended(number, pack_metadata_request(0)))
        assert await answer(peer) == MetadataReject(0)
        # another one still gets it
        async with connected(engine.address, made.info_hash, seed=2) as other:
            number, _ = await shake(other)
            await other.say(m.pack_extended(number, pack_metadata_request(1)))
            assert isinstance(await answer(other), MetadataPiece)


async def test_a_stored_torrent_that_is_gone_is_a_reject(tmp_path: Path, made: Made) -> None:
    async with seeding(tmp_path, made) as engine, connected(engine.address, made.info_hash) as peer:
        number, _ = await shake(peer)
        (tmp_path / "state" / "torrents" / f"{made.info_hash.hex()}.torrent").write_bytes(made.blob[:18_000])
        await peer.say(m.pack_extended(number, pack_metadata_request(0)))
        assert isinstance(await answer(peer), MetadataPiece)
        await peer.say(m.pack_extended(number, pack_metadata_request(1)))
        assert await answer(peer) == MetadataReject(1)


async def test_the_metadata_of_a_private_torrent_is_not_offered(tmp_path: Path) -> None:
    made = make_torrent(private=True)
    async with seeding(tmp_path, made) as engine, connected(engine.address, made.info_hash) as peer:
        told = parse_extension_handshake((await peer.hear_until("extended"))[1:])
        assert told.metadata_size is None
        assert "ut_metadata" not in told.extensions
        await peer.say(m.pack_extended(2, pack_metadata_request(0)), m.INTERESTED)
        await peer.hear_until("unchoke")
