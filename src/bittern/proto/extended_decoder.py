"""Bytes of a connection to its extension messages and nothing else, without I/O: for torrents of which it is not known
how many pieces they have, so that no other message could be judged.
"""

import struct
from typing import Final

from bittern.errors import ProtocolError
from bittern.proto import messages as m
from bittern.proto.decoder import MAX_EXTENDED_BYTES, MAX_SKIPPED_BYTES

_LENGTH: Final = struct.Struct(">I")
_HEADER_BYTES: Final = 5


class ExtendedDecoder:
    """`feed` may be given the bytes in any cuts: the messages are the same. After a `ProtocolError` it must not be fed
    again.
    """

    __slots__ = ("_body", "_header", "_missing", "_skipped")

    def __init__(self) -> None:
        self._header = bytearray()
        self._body = bytearray()
        """Of a message under way that is kept."""
        self._missing = 0
        """Bytes of it that have not come yet."""
        self._skipped = 0
        """The same of one that is read over."""

    @property
    def held_bytes(self) -> int:
        """What has come of a message that is kept until it is whole."""
        return len(self._body)

    def feed(self, view: memoryview) -> list[m.Extended]:
        """Takes the next bytes; gives the complete messages in them, in order."""
        found: list[m.Extended] = []
        at, end = 0, len(view)
        while at < end:
            if self._skipped:
                step = min(self._skipped, end - at)
                self._skipped -= step
            elif self._missing:
                step = min(self._missing, end - at)
                self._body += view[at : at + step]
                self._missing -= step
                if not self._missing:
                    found.append(m.Extended(self._body[0], bytes(self._body[1:])))
                    self._body.clear()
            else:
                step = min(_HEADER_BYTES - len(self._header), end - at)
                if len(self._header) < _LENGTH.size:
                    # a keep-alive ends behind its length
                    step = min(step, _LENGTH.size - len(self._header))
                self._header += view[at : at + step]
                self._begin()
            at += step
        return found

    def _begin(self) -> None:
        if len(self._header) < _LENGTH.size:
            return
        length: int = _LENGTH.unpack_from(self._header)[0]
        if length == 0:
            self._header.clear()
        elif len(self._header) == _HEADER_BYTES:
            kept = self._header[4] == m.EXTENDED_ID
            if length > (MAX_EXTENDED_BYTES if kept else MAX_SKIPPED_BYTES) or (kept and length < 2):
                raise ProtocolError(f"message {self._header[4]} with a length of {length}")
            self._header.clear()
            if kept:
                self._missing = length - 1
            else:
                self._skipped = length - 1
