"""Bytes of a peer connection to messages, without I/O; blocks go straight to where they belong.

The per-block path is one pass of the loop in `feed`: unpack a header, ask the sink for the place, copy, tell the
sink. Nothing is allocated for a block but small integers and one slice. Every length is judged before a byte of
the body is kept: what a hostile peer can make us hold is one bitfield or one extension message.
"""

import struct
from typing import Final, Protocol

from bittern.errors import ProtocolError
from bittern.proto import messages as m
from bittern.terms import BLOCK_SIZE

MAX_EXTENDED_BYTES: Final = 128 * 1024
"""An extension message: metadata pieces are 16 KiB, PEX messages a few hundred bytes. It is kept until it is whole,
so hundreds of hostile peers may hold this much each."""

MAX_SKIPPED_BYTES: Final = 1024 * 1024
"""An unknown message may be skipped up to this length (it is not kept); beyond it the stream is out of step."""

_LENGTH: Final = struct.Struct(">I")
_BLOCK: Final = struct.Struct(">III")
_KEPT: Final = frozenset({m.BITFIELD_ID, m.EXTENDED_ID})
"""Messages of many lengths whose body is kept; other unknown ones are read over."""

_FIXED: Final = {
    m.CHOKE_ID: 1,
    m.UNCHOKE_ID: 1,
    m.INTERESTED_ID: 1,
    m.NOT_INTERESTED_ID: 1,
    m.HAVE_ID: 5,
    m.REQUEST_ID: 13,
    m.CANCEL_ID: 13,
    m.PORT_ID: 3,
    m.SUGGEST_ID: 5,
    m.HAVE_ALL_ID: 1,
    m.HAVE_NONE_ID: 1,
    m.REJECT_ID: 13,
    m.ALLOWED_FAST_ID: 5,
}
_BARE: Final[dict[int, m.Message]] = {
    m.CHOKE_ID: m.Choke(),
    m.UNCHOKE_ID: m.Unchoke(),
    m.INTERESTED_ID: m.Interested(),
    m.NOT_INTERESTED_ID: m.NotInterested(),
    m.HAVE_ALL_ID: m.HaveAll(),
    m.HAVE_NONE_ID: m.HaveNone(),
}
_INDEXED: Final[dict[int, type[m.Have] | type[m.Suggest] | type[m.AllowedFast]]] = {
    m.HAVE_ID: m.Have,
    m.SUGGEST_ID: m.Suggest,
    m.ALLOWED_FAST_ID: m.AllowedFast,
}
_BLOCKS: Final[dict[int, type[m.Request] | type[m.Cancel] | type[m.Reject]]] = {
    m.REQUEST_ID: m.Request,
    m.CANCEL_ID: m.Cancel,
    m.REJECT_ID: m.Reject,
}


class BlockSink(Protocol):
    """Who knows where blocks belong."""

    def place(self, index: int, begin: int, length: int) -> memoryview | None:
        """Where the body goes (a view of exactly `length` bytes); None: read over it. May raise `ProtocolError`."""

    def landed(self, index: int, begin: int, length: int) -> None:
        """The body is complete in the view that `place` gave."""


class Decoder:
    """One connection's incoming bytes, after its handshake.

    `feed` may be given the bytes in any cuts: the messages are the same. After a `ProtocolError` it must not be fed
    again.
    """

    __slots__ = (
        "_bitfield_bytes",
        "_block",
        "_body_bytes",
        "_filled",
        "_header",
        "_partial",
        "_place",
        "_rest",
        "_sink",
    )

    def __init__(self, sink: BlockSink, *, piece_count: int) -> None:
        self._sink = sink
        self._bitfield_bytes = (piece_count + 7) // 8
        self._header = bytearray()
        """The beginning of a message whose header is not complete yet: at most 13 bytes."""
        self._partial: bytearray | None = None
        """The body, id included, of a rare message under way."""
        self._body_bytes = 0
        self._place: memoryview | None = None
        """Where the block under way goes; None with `_rest` > 0: it is read over."""
        self._block = (0, 0, 0)
        self._filled = 0
        self._rest = 0
        """Body bytes of a block or skipped message that have not come yet."""

    @property
    def held_bytes(self) -> int:
        """What has come of a message that is kept until it is whole."""
        return len(self._partial) if self._partial is not None else 0

    def divert(self) -> None:
        """The place of the block under way is no longer its peer's: the rest of the block is read over."""
        self._place = None

    def feed(self, view: memoryview) -> list[m.Message]:
        """Takes the next bytes; gives the complete messages in them, in order. Blocks go to the sink meanwhile."""
        found: list[m.Message] = []
        at, end = 0, len(view)
        if self._rest:
            at = self._continue_body(view)
        elif self._partial is not None:
            at = self._continue_message(view, 0, found)
        if self._header and at < end:
            at = self._complete_header(view, at, found)
        sink, unpack, last_number = self._sink, m.PIECE_HEADER.unpack_from, _LENGTH.unpack_from
        while end - at >= 13:
            length, kind, index, begin = unpack(view, at)
            if kind == m.PIECE_ID and length > 9:
                size = length - 9
                if size > BLOCK_SIZE:
                    raise ProtocolError(f"a block of {size} bytes")
                at += 13
                place = sink.place(index, begin, size)
                stop = at + size
                if stop <= end:
                    if place is not None:
                        place[:] = view[at:stop]
                        sink.landed(index, begin, size)
                    at = stop
                    continue
                come = end - at
                if place is not None:
                    place[:come] = view[at:]
                self._place, self._block = place, (index, begin, size)
                self._filled, self._rest = come, stop - end
                return found
            # The two that come by the thousand a second: their numbers are unpacked already, or nearly.
            if kind == m.REQUEST_ID and length == 13 and end - at >= 17:
                found.append(m.Request(index, begin, last_number(view, at + 13)[0]))
                at += 17
                continue
            if kind == m.HAVE_ID and length == 5:
                found.append(m.Have(index))
                at += 9
                continue
            at = self._message(view, at, found)
            if self._rest or self._partial is not None:
                return found
        while end - at >= 4:
            # fewer than 13 bytes: small messages may still be whole
            length = _LENGTH.unpack_from(view, at)[0]
            if length > 8 or end - at < 4 + length:
                break
            at = self._message(view, at, found)
        if at < end:
            self._header += view[at:]
        return found

    def _message(self, view: memoryview, at: int, found: list[m.Message]) -> int:
        """One message that is not a block, of which at least the header (or all) is here; gives where it ended."""
        length: int = _LENGTH.unpack_from(view, at)[0]
        if length == 0:
            return at + 4
        kind = view[at + 4]
        self._judge(kind, length)
        start, end = at + 4, len(view)
        if kind not in _FIXED and kind not in _KEPT:
            stop = start + length
            if stop > end:
                self._place, self._rest, self._filled = None, stop - end, 0
                return end
            return stop
        if start + length > end:
            self._partial, self._body_bytes = bytearray(view[start:]), length
            return end
        found.append(_value(kind, view[start + 1 : start + length]))
        return start + length

    def _judge(self, kind: int, length: int) -> None:
        fixed = _FIXED.get(kind)
        if fixed is not None:
            right = length == fixed
        elif kind == m.BITFIELD_ID:
            right = length == 1 + self._bitfield_bytes
        elif kind == m.EXTENDED_ID:
            right = 2 <= length <= MAX_EXTENDED_BYTES
        elif kind == m.PIECE_ID:
            right = 9 < length <= 9 + BLOCK_SIZE
        else:
            right = length <= MAX_SKIPPED_BYTES
        if not right:
            raise ProtocolError(f"message {kind} with a length of {length}")

    def _continue_body(self, view: memoryview) -> int:
        """More of a block, or of a message that is read over."""
        come: int = min(self._rest, len(view))
        place = self._place
        if place is not None:
            place[self._filled : self._filled + come] = view[:come]
            self._filled += come
        self._rest -= come
        if not self._rest and place is not None:
            self._place = None
            self._sink.landed(*self._block)
        return come

    def _continue_message(self, view: memoryview, at: int, found: list[m.Message]) -> int:
        """More of a rare message."""
        partial = self._partial
        assert partial is not None
        stop: int = min(len(view), at + self._body_bytes - len(partial))
        partial += view[at:stop]
        if len(partial) == self._body_bytes:
            self._partial = None
            found.append(_value(partial[0], memoryview(partial)[1:]))
        return stop

    def _complete_header(self, view: memoryview, at: int, found: list[m.Message]) -> int:
        """A message began at the very end of the last bytes: put its header together, then go on as usual."""
        header = self._header
        while at < len(view):
            want = 13
            if len(header) >= 4:
                length = _LENGTH.unpack_from(header)[0]
                if len(header) >= 5 and length:
                    self._judge(header[4], length)
                want = min(13, 4 + length)
            else:
                want = 4
            if len(header) < want:
                take = min(want - len(header), len(view) - at)
                header += view[at : at + take]
                at += take
                continue
            return self._begin(view, at, found)
        if len(header) >= 4 and len(header) >= min(13, 4 + _LENGTH.unpack_from(header)[0]):
            return self._begin(view, at, found)
        return at

    def _begin(self, view: memoryview, at: int, found: list[m.Message]) -> int:
        """The header is whole: start what it announces with the bytes that follow in `view`."""
        header = bytes(self._header)
        self._header.clear()
        length = _LENGTH.unpack_from(header)[0]
        if length == 0:
            return at
        kind = header[4]
        self._judge(kind, length)
        if kind == m.PIECE_ID:
            _, _, index, begin = m.PIECE_HEADER.unpack(header)
            size = length - 9
            self._place, self._block = self._sink.place(index, begin, size), (index, begin, size)
            self._filled, self._rest = 0, size
            return at + self._continue_body(view[at:])
        if kind not in _FIXED and kind not in _KEPT:
            self._place, self._rest, self._filled = None, 4 + length - len(header), 0
            return at + (self._continue_body(view[at:]) if self._rest else 0)
        self._partial, self._body_bytes = bytearray(header[4:]), length
        return self._continue_message(view, at, found)


def _value(kind: int, body: memoryview) -> m.Message:
    """A whole message; `body` is what follows the id, its length was judged."""
    if kind in _BLOCKS:
        return _BLOCKS[kind](*_BLOCK.unpack(body))
    if kind in _BARE:
        return _BARE[kind]
    if kind in _INDEXED:
        return _INDEXED[kind](_LENGTH.unpack(body)[0])
    if kind == m.BITFIELD_ID:
        return m.BitfieldMessage(bytes(body))
    if kind == m.EXTENDED_ID:
        return m.Extended(body[0], bytes(body[1:]))
    return m.Port(int.from_bytes(body))
