"""What a new .torrent says: an info dictionary with the keys that other programs give it (BEP 3, 27)."""

from collections.abc import Sequence
from typing import Final

from bittern.proto.bencode import Value, encode
from bittern.terms import BLOCK_SIZE

PIECES_WANTED: Final = 1500
"""So many, or up to twice as few: a .torrent of 30 KB, and progress by a thousandth."""

LARGEST_CHOSEN: Final = 16 * 1024 * 1024
"""Larger ones many clients do not take."""


def choose_piece_length(total_bytes: int) -> int:
    """A power of two from 16 KiB to 16 MiB."""
    length = BLOCK_SIZE
    while length < LARGEST_CHOSEN and total_bytes > length * PIECES_WANTED:
        length *= 2
    return length


def make_info(
    name: bytes,
    files: Sequence[tuple[bytes, int]] | int,
    *,
    piece_length: int,
    piece_hashes: bytes,
    private: bool = False,
) -> bytes:
    """The info dictionary. `files` are paths below the root, with `/` between their parts, and lengths; or the length
    of the one file that the torrent is.
    """
    info: dict[bytes, Value] = {b"name": name, b"piece length": piece_length, b"pieces": piece_hashes}
    if isinstance(files, int):
        info[b"length"] = files
    else:
        info[b"files"] = [{b"length": length, b"path": [*path.split(b"/")]} for path, length in files]
    if private:
        info[b"private"] = 1
    return encode(info)


def make_metainfo(
    info: bytes,
    *,
    trackers: Sequence[Sequence[str]] = (),
    web_seeds: Sequence[str] = (),
    comment: str = "",
    created_by: str = "",
    creation_date: int | None = None,
) -> bytes:
    """The .torrent around it (BEP 3, 12, 19); the bytes of `info` stay as they are."""
    before: dict[bytes, Value] = {}
    if trackers:
        before[b"announce"] = trackers[0][0].encode()
        if len(trackers) > 1 or len(trackers[0]) > 1:
            before[b"announce-list"] = [[url.encode() for url in tier] for tier in trackers]
    if comment:
        before[b"comment"] = comment.encode()
    if created_by:
        before[b"created by"] = created_by.encode()
    if creation_date is not None:
        before[b"creation date"] = creation_date
    behind: dict[bytes, Value] = {}
    if web_seeds:
        behind[b"url-list"] = [url.encode() for url in web_seeds]
    return encode(before)[:-1] + b"4:info" + info + encode(behind)[1:]
