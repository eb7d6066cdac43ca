"""Dials a peer of one torrent, whether its metadata is known or sought, up to the handshake."""

import trio

from bittern.errors import HandshakeError
from bittern.net.dialer import Dialer
from bittern.net.listener import HANDSHAKE_DEADLINE_S, read_handshake
from bittern.net.transport import PeerTransport
from bittern.proto.handshake import Handshake
from bittern.terms import Address, InfoHash


async def call(
    dialer: Dialer, address: Address, hello: bytes, info_hash: InfoHash
) -> tuple[PeerTransport, Handshake]:
    """The connection, which is the caller's from then on, and what was answered to our handshake `hello`.

    Errors: `OSError`, `PeerError`, `trio.TooSlowError`; the connection is closed then.
    """
    transport = await dialer.dial(address)
    try:
        with trio.fail_after(HANDSHAKE_DEADLINE_S):
            if transport.send_nowait(hello) != len(hello):
                raise HandshakeError("the connection does not take a handshake")
            handshake = await read_handshake(transport)
        if handshake.info_hash != info_hash:
            raise HandshakeError("answered for another torrent")
    except BaseException:
        transport.close()
        raise
    return transport, handshake
