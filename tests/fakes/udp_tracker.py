"""A scripted UDP tracker: honest by itself, or misbehaving datagram by datagram.

`UdpTracker` decides, without I/O. `serve_udp` puts it on a real loopback port; `PaperNet` carries datagrams to it
without sockets (for virtual time). It reads and writes its datagrams by itself, not with the code under test.
"""

import struct
from dataclasses import dataclass
from typing import Any

from bittern.proto.announce import AnnounceEvent

EVENTS = [AnnounceEvent.NONE, AnnounceEvent.COMPLETED, AnnounceEvent.STARTED, AnnounceEvent.STOPPED]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One datagram that it was sent."""

    connection: int
    action: int
    transaction: int
    info_hashes: tuple[bytes, ...] = ()
    peer_id: bytes = b""
    downloaded: int = 0
    left: int = 0
    uploaded: int = 0
    event: AnnounceEvent = AnnounceEvent.NONE
    key: int = 0
    numwant: int = 0
    port: int = 0
    url_data: bytes = b""


def parse_question(blob: bytes) -> Question:
    connection, action, transaction = struct.unpack(">QII", blob[:16])
    words: dict[str, Any] = {"connection": connection, "action": action, "transaction": transaction}
    if action == 2:
        words["info_hashes"] = tuple(blob[at : at + 20] for at in range(16, len(blob), 20))
    if action == 1:
        words["info_hashes"] = (blob[16:36],)
        words["peer_id"] = blob[36:56]
        words["downloaded"], words["left"], words["uploaded"] = struct.unpack(">QQQ", blob[56:80])
        event, address, words["key"], words["numwant"], words["port"] = struct.unpack(">IIIIH", blob[80:98])
        assert address == 0
        words["event"], words["url_data"] = EVENTS[event], b""
        options = blob[98:]
        while options:
            assert options[0] == 2
            words["url_data"] += options[2 : 2 + options[1]]
            assert len(options) >= 2 + options[1]
            options = options[2 + options[1] :]
    return Question(**words)
