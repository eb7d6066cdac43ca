"""Peers that tell in the midst of a connection that they want nothing any more, or something again (BEP 21).

Handshakes alone would do by the BEP, but libtorrent does not repeat its own. We say it in handshakes; when we want
something again that begins with new connections, for libtorrent heeds no `upload_only` of 0 in a handshake.
"""

from typing import Final

from bittern.engine.extensions import Partner
from bittern.proto.extension import UPLOAD_ONLY, ExtensionHandshake

NUMBER: Final = 3


class UploadOnly:
    """One swarm's; an `Extension`."""

    name = UPLOAD_ONLY
    number = NUMBER
    longest_bytes = 16

    def met(self, partner: Partner, told: ExtensionHandshake) -> None:
        pass

    def heard(self, partner: Partner, payload: bytes) -> bool:
        partner.spoken.upload_only = any(payload)
        return False

    def left(self, partner: Partner) -> None:
        pass

    def tick(self, now: float) -> None:
        pass
