"""Strict bencode (BEP 3). Iterative, so that depth is a number and not the interpreter's stack.

Accepted beyond the letter, because the wild is full of it: dictionary keys out of order. Refused always: duplicate
keys, leading zeros, negative zero, anything after the end.
"""

from typing import Any, Final, TypeAlias

from bittern.errors import BencodeError, BencodeTruncated

Value: TypeAlias = int | bytes | list["Value"] | dict[bytes, "Value"]

MAX_DEPTH: Final = 64
MAX_ITEMS: Final = 2_000_000
"""Values in one blob, keys among them; a list or dictionary counts twice, for it costs more. A torrent of 150 000 files
stays below it, a bomb does not: what is made of it takes 180 MB at most, and not thirty times its size."""

MAX_INTEGER: Final = (1 << 63) - 1
"""Sizes, counts and times of the field are signed 64-bit numbers."""

MAX_DIGITS: Final = 20
"""Of an integer or a length: 63 bits and a sign."""

_LENGTHS: Final = {b"%d" % length: length for length in range(1024)}
"""Nearly every string is short: one look-up instead of the checks."""

_D: Final = 0x64
_E: Final = 0x65
_I: Final = 0x69
_L: Final = 0x6C


def decode(blob: bytes | memoryview, *, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS) -> Value:
    """The one value that `blob` is; `BencodeTruncated` when it ends too early, `BencodeError` when it is wrong."""
    value, end, _ = _decode(bytes(blob), max_depth, max_items, None)
    if end != len(blob):
        raise BencodeError(f"{len(blob) - end} bytes after the end")
    return value


def decode_prefix(
    blob: bytes | memoryview, *, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS
) -> tuple[Value, int]:
    """The value that `blob` begins with, and where it ends."""
    value, end, _ = _decode(bytes(blob), max_depth, max_items, None)
    return value, end


def decode_with_span(
    blob: bytes | memoryview, key: bytes = b"info", *, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS
) -> tuple[Value, tuple[int, int] | None]:
    """The value, and from where to where in `blob` the value of that key of the top dictionary stands."""
    value, end, span = _decode(bytes(blob), max_depth, max_items, key)
    if end != len(blob):
        raise BencodeError(f"{len(blob) - end} bytes after the end")
    return value, span


def _decode(  # noqa: C901 — one flat loop: recursion would make depth the attacker's choice, and calls cost
    blob: bytes, max_depth: int, max_items: int, wanted: bytes | None
) -> tuple[Value, int, tuple[int, int] | None]:
    at, end, items = 0, len(blob), 0
    find, lengths = blob.find, _LENGTHS
    stack: list[tuple[Any, bytes | None]] = []
    """The open containers around `holder`, each with the key under which the next inner one will stand."""
    holder: Any = None
    key: bytes | None = None
    """In a dictionary: the key that waits for its value."""
    span: tuple[int, int] | None = None
    began = 0
    value: Any
    while at < end:
        kind = blob[at]
        start = at
        items += 1
        if items > max_items:
            raise BencodeError(f"more than {max_items} values")
        if 0x30 <= kind <= 0x39:
            colon = find(b":", at, at + MAX_DIGITS + 1)
            length = lengths.get(blob[at:colon]) if colon > 0 else None
            if length is None:
                length, colon = _length(blob, at)
            at = colon + 1 + length
            if at > end:
                break
            value = blob[colon + 1 : at]
        elif kind == _I:
            value, at = _integer(blob, at)
        elif kind == _E and stack:
            if key is not None:
                raise BencodeError(f"a key without a value, at {at}")
            value, start = holder, began
            holder, key = stack.pop()
            at += 1
        elif kind in (_L, _D):
            if key is None and type(holder) is dict:
                raise BencodeError(f"a key that is not a string, at {at}")
            if len(stack) >= max_depth:
                raise BencodeError(f"nested deeper than {max_depth}")
            if len(stack) == 1 and key is not None and key == wanted:
                began = at
            stack.append((holder, key))
            holder, key = [] if kind == _L else {}, None
            at += 1
            continue
        else:
            raise BencodeError(f"byte {kind:#04x} at {at} begins no value")
        if key is not None:
            holder[key] = value
            if len(stack) == 1 and key == wanted:
                span = (start, at)
            key = None
        elif type(holder) is dict:
            if type(value) is not bytes:
                raise BencodeError(f"a key that is not a string, at {start}")
            if value in holder:
                raise BencodeError(f"the key {value[:40]!r} twice, at {start}")
            key = value
        elif stack:
            holder.append(value)
        else:
            return value, at, span
    raise BencodeTruncated("ends too early")


def _length(blob: bytes, at: int) -> tuple[int, int]:
    """The length of the string that begins there, and where its colon is."""
    colon = blob.find(b":", at, at + MAX_DIGITS + 1)
    digits = blob[at:colon] if colon >= 0 else blob[at : at + MAX_DIGITS + 1]
    if not digits.isdigit():
        raise BencodeError(f"a length that is not a number, at {at}")
    if len(digits) > 1 and digits[0] == 0x30:
        raise BencodeError(f"a length with leading zeros, at {at}")
    if colon < 0:
        if len(digits) > MAX_DIGITS:
            raise BencodeError(f"a length without end, at {at}")
        raise BencodeTruncated("ends too early")
    return int(digits), colon


def _integer(blob: bytes, at: int) -> tuple[int, int]:
    stop = blob.find(b"e", at + 1, at + MAX_DIGITS + 2)
    text = blob[at + 1 : stop] if stop >= 0 else blob[at + 1 : at + MAX_DIGITS + 2]
    digits = text.removeprefix(b"-")
    if digits and not digits.isdigit():
        raise BencodeError(f"an integer that is not a number, at {at}")
    if (len(digits) > 1 and digits[0] == 0x30) or text.startswith(b"-0"):
        raise BencodeError(f"an integer with leading zeros, at {at}")
    if stop < 0:
        if len(text) > MAX_DIGITS:
            raise BencodeError(f"an integer without end, at {at}")
        raise BencodeTruncated("ends too early")
    if not digits:
        raise BencodeError(f"an integer without digits, at {at}")
    value = int(text)
    if not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        raise BencodeError(f"an integer beyond 64 bits, at {at}")
    return value, stop + 1


def encode(value: Value) -> bytes:
    """Canonical: keys sorted. Raises `TypeError` for what is no bencode value (a bug of ours)."""
    parts: list[bytes] = []
    _encode(value, parts)
    return b"".join(parts)


def _encode(value: Value, parts: list[bytes]) -> None:
    match value:
        case bool():
            raise TypeError("bencode has no booleans")
        case int():
            parts.append(b"i%de" % value)
        case bytes():
            parts.append(b"%d:" % len(value))
            parts.append(value)
        case list():
            parts.append(b"l")
            for one in value:
                _encode(one, parts)
            parts.append(b"e")
        case dict():
            parts.append(b"d")
            for key in sorted(value):
                _encode(key, parts)
                _encode(value[key], parts)
            parts.append(b"e")
        case _:
            raise TypeError(f"bencode has no {type(value).__name__}")
