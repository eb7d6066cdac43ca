"""Where the files of a torrent lie, as a few bytes: what a glance at a complete torrent needs, without its .torrent."""

import zlib
from typing import Final

LIST_AT_MOST_BYTES: Final = 64 * 1024 * 1024
"""What a .torrent of 32 MiB can hardly exceed, also where its names are replaced by longer ones."""


def pack_paths(paths: tuple[str | None, ...]) -> bytes:
    """Paths below the download folder, None for pads. No path is empty or has a NUL in it."""
    body = zlib.compress("\0".join(path or "" for path in paths).encode("utf-8", "surrogateescape"), 1)
    return zlib.crc32(body).to_bytes(4) + body


def unpack_paths(blob: bytes) -> tuple[str | None, ...] | None:
    """What `pack_paths` packed; None when it was not that, or has been damaged since."""
    if zlib.crc32(blob[4:]).to_bytes(4) != blob[:4]:
        return None
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(blob[4:], LIST_AT_MOST_BYTES)
    except zlib.error:
        return None
    if not inflate.eof:
        return None
    return tuple(path or None for path in text.decode("utf-8", "surrogateescape").split("\0"))
