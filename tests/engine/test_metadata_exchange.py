"""Peer exchange while the metadata is missing (BEP 9, 11): heard at once, told when the torrent cannot be private."""

from pathlib import Path

import pytest
import trio

from bittern.engine.gathering import NUMBER as METADATA_NUMBER
from bittern.engine.pex import NUMBER
from bittern.engine.torrent import State
from bittern.policy import exchange
from bittern.policy.add_terms import AddTerms
from bittern.proto import messages as m
from bittern.proto.bencode import Value, encode
from bittern.proto.extension import UT_PEX, parse_extension_handshake
from bittern.proto.handshake import HANDSHAKE_BYTES, parse_handshake
from bittern.proto.metadata import pack_metadata_request
from bittern.proto.pex import pack_pex, parse_pex
from bittern.terms import Address
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent

THEIRS = 55
THEIR_METADATA = 3


async def seeking(engine: Engine, made: Made) -> None:
    link = f"magnet:?xt=urn:btih:{made.info_hash.hex()}"
    await engine.session.add_magnet(link, AddTerms(str(engine.downloads)))
    torrent = engine.session.torrents[made.info_hash]
    await engine.until_true(lambda: torrent.state is State.METADATA, "seeking")


async def introduce(peer: ScriptedPeer, port: int, **more: Value) -> None:
    told: dict[bytes, Value] = {b"m": {b"ut_pex": THEIRS, b"ut_metadata": THEIR_METADATA}, b"p": port}
    told |= {name.encode(): value for name, value in more.items()}
    await peer.say(m.pack_extended(0, encode(told)))


async def test_others_are_told_of_each_other_when_somebody_shows_that_it_is_not_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "FIRST_S", 0.0)
    made = make_torrent(size=50_000)
    async with running(tmp_path) as engine:
        await seeking(engine, made)
        async with (
            connected(engine.address, made.info_hash, source="127.0.0.2") as one,
            connected(engine.address, made.info_hash, source="127.0.0.3", seed=1) as other,
        ):
            for number, peer in enumerate((one, other), 2):
                hello = parse_extension_handshake((await peer.hear_until("extended"))[1:])
                assert hello.extensions[UT_PEX] == NUMBER
                await introduce(peer, 7000 + number)
            (swarm,) = engine.session.swarms.seeking.values()
            await engine.until_true(lambda: all(one.listens_on for one in swarm.peers), "both are known")
            swarm.extensions.tick(trio.current_time() + 1)
            await one.say(m.pack_extended(METADATA_NUMBER, pack_metadata_request(0)))
            body = await one.hear_until("extended", 90)
            assert body[0] == THEIR_METADATA, "and nothing before: it may be a private torrent"
            await introduce(one, 7002, metadata_size=500)
            await introduce(other, 7003, metadata_size=500)
            while body[:1] != bytes([THEIRS]):
                # whom we ask for metadata meanwhile is the other
                body = await one.hear_until("extended", 90)
            ((address, _),) = parse_pex(body[1:]).added
            assert address == Address("127.0.0.3", 7003)


async def test_whom_a_peer_names_is_asked_too(tmp_path: Path) -> None:
    made = make_torrent(size=50_000)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.4")
    async with listener, running(tmp_path) as engine:
        await seeking(engine, made)
        async with connected(engine.address, made.info_hash) as peer:
            await introduce(peer, 7000)
            named = Address(*listener.socket.getsockname()[:2])
            await peer.say(m.pack_extended(NUMBER, pack_pex({named: 0}, ())))
            with trio.fail_after(90):
                stream = await listener.accept()
                async with stream:
                    heard = b""
                    while len(heard) < HANDSHAKE_BYTES:
                        heard += await stream.receive_some(HANDSHAKE_BYTES - len(heard))
            assert parse_handshake(heard).info_hash == made.info_hash


async def test_who_wants_no_peer_exchange_has_none_here_either(tmp_path: Path) -> None:
    made = make_torrent(size=50_000)
    async with running(tmp_path, pex=False) as engine:
        await seeking(engine, made)
        async with connected(engine.address, made.info_hash) as peer:
            hello = parse_extension_handshake((await peer.hear_until("extended"))[1:])
            assert UT_PEX not in hello.extensions
