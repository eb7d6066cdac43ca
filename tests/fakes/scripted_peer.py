"""A peer that does exactly what a test says, over a real socket."""

import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from bittern.proto import messages as m
from bittern.proto.handshake import HANDSHAKE_BYTES, Handshake, make_peer_id, pack_handshake, parse_handshake
from bittern.terms import Address, InfoHash, PeerId
from tests.fakes.torrents import Made

_FROM_ID = {
    m.CHOKE_ID: "choke",
    m.UNCHOKE_ID: "unchoke",
    m.INTERESTED_ID: "interested",
    m.NOT_INTERESTED_ID: "not interested",
    m.HAVE_ID: "have",
    m.BITFIELD_ID: "bitfield",
    m.REQUEST_ID: "request",
    m.PIECE_ID: "piece",
    m.CANCEL_ID: "cancel",
    m.HAVE_ALL_ID: "have all",
    m.HAVE_NONE_ID: "have none",
    m.REJECT_ID: "reject",
    m.ALLOWED_FAST_ID: "allowed fast",
    m.SUGGEST_ID: "suggest",
    m.EXTENDED_ID: "extended",
    m.PORT_ID: "port",
}


class ScriptedPeer:
    """Messages come as (name, body). `gone` says that the other side closed."""

    def __init__(self, stream: trio.SocketStream, theirs: Handshake) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self.theirs = theirs

    async def say(self, *blobs: bytes) -> None:
        await self._stream.send_all(b"".join(blobs))

    async def hear(self) -> tuple[str, bytes]:
        """The next message; `trio.EndOfChannel` when there is none any more."""
        while True:
            if len(self._buffer) >= 4:
                (length,) = struct.unpack_from(">I", self._buffer)
                if len(self._buffer) >= 4 + length:
                    message = bytes(self._buffer[4 : 4 + length])
                    del self._buffer[: 4 + length]
                    if message:
                        return _FROM_ID[message[0]], message[1:]
                    continue
            try:
                more = await self._stream.receive_some(65536)
            except trio.BrokenResourceError:
                more = b""
            if not more:
                raise trio.EndOfChannel
            self._buffer += more

    async def hear_until(self, name: str, timeout_s: float = 60) -> bytes:
        """Reads over everything up to the message of that name; gives its body."""
        with trio.fail_after(timeout_s):
            while True:
                heard, body = await self.hear()
                if heard == name:
                    return body

    async def until_gone(self, timeout_s: float = 60) -> list[str]:
        """Waits for the other side to close; gives the names of what it still said."""
        names = []
        with trio.fail_after(timeout_s):
            while True:
                try:
                    names.append((await self.hear())[0])
                except trio.EndOfChannel:
                    return names

    async def serve(self, made: Made, *, spoil: frozenset[int] = frozenset(), pieces: int = 1 << 30) -> None:
        """Answers requests as a seed until the other side goes; pieces in `spoil` get one wrong byte."""
        served = 0
        while served < pieces:
            try:
                name, body = await self.hear()
            except trio.EndOfChannel:
                return
            if name != "request":
                continue
            index, begin, length = struct.unpack(">III", body)
            block = bytearray(made.piece(index)[begin : begin + length])
            if index in spoil:
                block[0] ^= 0xFF
            try:
                await self.say(piece(index, begin, bytes(block)))
            except trio.BrokenResourceError:
                return
            served += 1


def piece(index: int, begin: int, block: bytes) -> bytes:
    return m.PIECE_HEADER.pack(9 + len(block), m.PIECE_ID, index, begin) + block


@asynccontextmanager
async def connected(
    address: Address,
    info_hash: InfoHash,
    *,
    seed: int = 0,
    source: str = "127.0.0.1",
    fast: bool = True,
    peer_id: PeerId | None = None,
    dht: bool = False,
) -> AsyncIterator[ScriptedPeer]:
    """Dials, from the given loopback address, and shakes hands."""
    raw = trio.socket.socket()
    try:
        await raw.bind((source, 0))
        await raw.connect(tuple(address))
    except BaseException:
        raw.close()
        raise
    stream = trio.SocketStream(raw)
    try:
        hello = bytearray(
            pack_handshake(
                info_hash,
                peer_id or make_peer_id(random.Random(f"scripted {seed} {source}"), "9.9.9"),
                dht=dht,
            )
        )
        if not fast:
            hello[27] &= ~0x04
        await stream.send_all(hello)
        heard = bytearray()
        with trio.fail_after(60):
            while len(heard) < HANDSHAKE_BYTES:
                more = await stream.receive_some(HANDSHAKE_BYTES - len(heard))
                if not more:
                    raise trio.EndOfChannel
                heard += more
        yield ScriptedPeer(stream, parse_handshake(bytes(heard)))
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def dialled(
    dial: Callable[[Address], None], info_hash: InfoHash, peer_id: PeerId, *, within_s: float = 60
) -> AsyncIterator[ScriptedPeer]:
    """Listens, has itself dialled, and answers the handshake."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        dial(Address(*listener.socket.getsockname()))
        with trio.fail_after(within_s):
            stream = await listener.accept()
        try:
            heard = b""
            while len(heard) < HANDSHAKE_BYTES:
                heard += await stream.receive_some(HANDSHAKE_BYTES - len(heard))
            await stream.send_all(pack_handshake(info_hash, peer_id))
            yield ScriptedPeer(stream, parse_handshake(heard))
        finally:
            await trio.aclose_forcefully(stream)
