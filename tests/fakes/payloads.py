"""Torrents with their data: made from a seed, so that a failure can be made again."""

import contextlib
import hashlib
import random
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bittern.proto.bencode import encode

MIB = 1 << 20


@dataclass(frozen=True)
class Payload:
    """Data below `folder`, and the info dictionary that describes it. One size: a single file of that name."""

    name: str
    folder: Path
    sizes: tuple[int, ...]
    single: bool
    piece_length: int
    info: dict[bytes, object]
    digest: str

    @property
    def info_hash(self) -> str:
        return hashlib.sha1(encode(self.info)).hexdigest()

    @property
    def total(self) -> int:
        return sum(self.sizes)

    @property
    def piece_count(self) -> int:
        return -(-self.total // self.piece_length)

    def piece_hash(self, index: int) -> bytes:
        return self.info[b"pieces"][20 * index : 20 * index + 20]  # type: ignore[index] — it is bytes

    def blob(self, *trackers: str) -> bytes:
        meta: dict[bytes, object] = {b"info": self.info}
        if trackers:
            meta[b"announce"] = trackers[0].encode()
        if len(trackers) > 1:
            meta[b"announce-list"] = [[url.encode()] for url in trackers]
        return encode(meta)

    def torrent(self, folder: Path, *trackers: str) -> Path:
        """The .torrent, as a file in that folder."""
        path = folder / f"{self.name}.torrent"
        path.write_bytes(self.blob(*trackers))
        return path

    def file_paths(self) -> list[str]:
        """Below a download folder, in the torrent's order."""
        if self.single:
            return [self.name]
        return [f"{self.name}/{_file_name(number)}" for number in range(len(self.sizes))]

    def read_piece(self, folder: Path, index: int) -> bytes:
        """What lies below that folder in the place of a piece; short where files are."""
        at, until = index * self.piece_length, min((index + 1) * self.piece_length, self.total)
        found, start = b"", 0
        for path, size in zip(self.file_paths(), self.sizes, strict=True):
            low, high = max(at, start), min(until, start + size)
            if low < high and (folder / path).exists():
                with (folder / path).open("rb") as file:
                    file.seek(low - start)
                    found += file.read(high - low)
            start += size
        return found


def make_payload(
    folder: Path, name: str, sizes: int | Sequence[int], piece_length: int, *, private: bool = False
) -> Payload:
    """A number makes a single file; a list a folder of files."""
    single = isinstance(sizes, int)
    listed = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    rng = random.Random(f"{name} {listed} {piece_length}")
    folder.mkdir(parents=True, exist_ok=True)
    hashes, pending = [], b""
    for number, size in enumerate(listed):
        path = folder / name if single else folder / name / _file_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for at in range(0, size, 4 * MIB):
                part = rng.randbytes(min(4 * MIB, size - at))
                file.write(part)
                pending += part
                whole = len(pending) - len(pending) % piece_length
                hashes += [
                    _sha1(pending[begin : begin + piece_length]) for begin in range(0, whole, piece_length)
                ]
                pending = pending[whole:]
    if pending:
        hashes.append(_sha1(pending))
    info: dict[bytes, object] = {
        b"name": name.encode(),
        b"piece length": piece_length,
        b"pieces": b"".join(hashes),
    }
    if private:
        info[b"private"] = 1
    if single:
        info[b"length"] = listed[0]
    else:
        info[b"files"] = [
            {b"length": size, b"path": _file_name(number).encode().split(b"/")}
            for number, size in enumerate(listed)
        ]
    return Payload(name, folder, listed, single, piece_length, info, digest_of(folder / name))


def allocated(path: Path) -> int:
    """Bytes that a file, or all files in a folder, take on the disk; what is moved away meanwhile counts nothing."""
    blocks = 0
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found = file.lstat()
            blocks += found.st_blocks * stat.S_ISREG(found.st_mode)
    return blocks * 512


def digest_of(path: Path, *, empty_files: bool = True) -> str:
    """SHA-256 over a file; over a folder, over the names, sizes and bytes of all files in it."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and (empty_files or file.stat().st_size):
            if path.is_dir():
                found.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
            with file.open("rb") as opened:
                while part := opened.read(MIB):
                    found.update(part)
    return found.hexdigest()


def _file_name(number: int) -> str:
    return f"{number // 100:02d}/file {number:04d}.bin"


def _sha1(blob: bytes) -> bytes:
    return hashlib.sha1(blob).digest()
