"""Torrents made for tests: payload and metainfo, without any other program."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bittern.proto.bencode import Value, encode
from bittern.terms import InfoHash


@dataclass(frozen=True, slots=True)
class Made:
    """`blob` is the .torrent, `payload` the torrent's bytes, `paths` the files below the download folder."""

    name: str
    blob: bytes
    payload: bytes
    piece_length: int
    info_hash: InfoHash
    paths: tuple[tuple[str, int], ...]

    @property
    def piece_count(self) -> int:
        return -(-len(self.payload) // self.piece_length)

    def piece(self, index: int) -> bytes:
        return self.payload[index * self.piece_length : (index + 1) * self.piece_length]

    def write(self, folder: Path) -> None:
        """The payload as files."""
        at = 0
        for path, length in self.paths:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.payload[at : at + length])
            at += length

    def is_at(self, folder: Path) -> bool:
        """Does the payload lie there, every byte of it?"""
        at = 0
        for path, length in self.paths:
            target = folder / path
            if not target.is_file() or target.read_bytes() != self.payload[at : at + length]:
                return False
            at += length
        return True


def make_torrent(
    name: str = "payload.bin",
    *,
    size: int = 300_000,
    piece_length: int = 65536,
    files: Sequence[tuple[str, int]] = (),
    trackers: Sequence[Sequence[str]] = (),
    private: bool = False,
    seed: int = 1,
) -> Made:
    """One file of `size` bytes, or `files` of (path below the root, length)."""
    size = sum(length for _, length in files) if files else size
    payload = random.Random(f"{name} {seed}").randbytes(size)
    pieces = b"".join(
        hashlib.sha1(payload[at : at + piece_length]).digest() for at in range(0, size, piece_length)
    )
    info: dict[bytes, Value] = {b"name": name.encode(), b"piece length": piece_length, b"pieces": pieces}
    if files:
        info[b"files"] = [
            {b"path": [part.encode() for part in path.split("/")], b"length": length}
            for path, length in files
        ]
        paths = tuple((f"{name}/{path}", length) for path, length in files)
    else:
        info[b"length"] = size
        paths = ((name, size),)
    if private:
        info[b"private"] = 1
    top: dict[bytes, Value] = {b"info": info}
    if trackers:
        top[b"announce"] = trackers[0][0].encode()
        top[b"announce-list"] = [[url.encode() for url in tier] for tier in trackers]
    digest = hashlib.sha1(encode(info)).digest()
    return Made(name, encode(top), payload, piece_length, InfoHash(digest), paths)
