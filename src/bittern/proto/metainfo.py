"""A .torrent's bytes to a `Metainfo` (BEP 3, 12, 19, 27, 47), or one line that says why not.

Names come out as the torrent gives them (decoded, nothing more): where they may lie on disk is for `disk.paths`.
What a torrent needs must be right; what is only told about it (comment, dates, trackers) is left out when it is not.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from bittern.errors import BencodeError, BencodeTruncated, MetainfoError, MetainfoTruncated
from bittern.proto.bencode import Value, decode_with_span, encode
from bittern.terms import InfoHash

MAX_METAINFO_BYTES: Final = 32 * 1024 * 1024
"""1.5 million piece hashes: larger files than that are no torrents."""

MAX_PIECE_LENGTH: Final = 256 * 1024 * 1024
"""The largest that any client is known to make; a piece has to be verified as one."""

MAX_FILES: Final = 150_000
"""As many as the decoder's bound on values lets through; each costs the process about 1 KB while it is parsed."""

MAX_COMPONENTS: Final = 64
MAX_PATH_BYTES: Final = 2048
"""Of a file's path below the root: with the root's name and the download folder it has to stay below the kernel's 4096
(PATH_MAX)."""

MAX_TRACKERS: Final = 200
MAX_WEB_SEEDS: Final = 200
MAX_NODES: Final = 50
MAX_HOST_BYTES: Final = 253
MAX_URL_BYTES: Final = 2048
MAX_TEXT: Final = 1000
MAX_TOTAL_BYTES: Final = 1 << 60
MAX_DATE: Final = 253_402_300_799
"""The end of the year 9999: beyond it no calendar of ours goes."""

MAX_DEPTH: Final = 100
V2_ONLY: Final = "a BitTorrent v2 torrent without v1 data, which is not supported; ask for a hybrid one"
TRACKER_SCHEMES: Final = ("http://", "https://", "udp://")
WEB_SEED_SCHEMES: Final = ("http://", "https://", "ftp://")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One listed file. `components` lead from the torrent's root to it, as named (unsafe!); () for the root itself.

    A `pad` file only fills space (BEP 47): it is never on disk.
    """

    components: tuple[str, ...]
    length: int
    pad: bool = False
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Metainfo:
    """`total_bytes` is the space that the pieces cover, pad files included; `piece_hashes` is 20 bytes a piece."""

    info_hash: InfoHash
    name: str
    piece_length: int
    total_bytes: int
    piece_hashes: bytes
    multi_file: bool
    files: tuple[FileEntry, ...]
    private: bool
    trackers: tuple[tuple[str, ...], ...]
    web_seeds: tuple[str, ...]
    comment: str | None
    created_by: str | None
    creation_date: int | None
    hybrid: bool
    nodes: tuple[tuple[str, int], ...] = ()
    """Of the DHT, to begin with: names or addresses (BEP 5)."""
    info_span: tuple[int, int] = (0, 0)
    """Where the info dictionary lies in the .torrent: its first byte, and the one behind its last."""

    @property
    def piece_count(self) -> int:
        return len(self.piece_hashes) // 20

    @property
    def listed_bytes(self) -> int:
        """The sum of the files that will be on disk."""
        return sum(file.length for file in self.files if not file.pad)

    def piece_hash(self, index: int) -> bytes:
        """The piece's SHA-1."""
        return self.piece_hashes[20 * index : 20 * index + 20]


def parse_metainfo(blob: bytes) -> Metainfo:
    """`MetainfoTruncated` when more bytes could make it right, `MetainfoError` when none could."""
    if len(blob) > MAX_METAINFO_BYTES:
        raise MetainfoError(f"larger than {MAX_METAINFO_BYTES >> 20} MiB, which no torrent is")
    try:
        top, span = decode_with_span(blob, max_depth=MAX_DEPTH)
    except BencodeTruncated as error:
        raise MetainfoTruncated(
            "the file ends too early: it was cut off, or is still being written"
        ) from error
    except BencodeError as error:
        raise MetainfoError(f"not a torrent: {error}") from error
    if not isinstance(top, dict):
        raise MetainfoError("not a torrent: it is not a dictionary")
    info = top.get(b"info")
    if span is None or not isinstance(info, dict):
        raise MetainfoError("not a torrent: it has no info dictionary")
    files, multi_file = _files(info)
    piece_length, piece_hashes = _pieces(info)
    total = sum(file.length for file in files)
    if total > MAX_TOTAL_BYTES:
        raise MetainfoError("its files are larger than any disk")
    if -(-total // piece_length) != len(piece_hashes) // 20:
        raise MetainfoError(
            f"{len(piece_hashes) // 20} piece hashes for {total} bytes in pieces of {piece_length}: they do not match"
        )
    return Metainfo(
        info_hash=InfoHash(hashlib.sha1(memoryview(blob)[span[0] : span[1]]).digest()),
        name=_name(info),
        piece_length=piece_length,
        total_bytes=total,
        piece_hashes=piece_hashes,
        multi_file=multi_file,
        files=files,
        private=_private(info.get(b"private")),
        trackers=_trackers(top),
        web_seeds=_web_seeds(top.get(b"url-list")),
        comment=_told(top, b"comment"),
        created_by=_told(top, b"created by"),
        creation_date=_date(top.get(b"creation date")),
        hybrid=info.get(b"meta version") == 2,
        nodes=_nodes(top.get(b"nodes")),
        info_span=span,
    )


def assemble_metainfo(
    info: bytes, trackers: Sequence[Sequence[str]] = (), web_seeds: Sequence[str] = ()
) -> bytes:
    """A .torrent around the bytes of an info dictionary, which stay as they are."""
    parts = [b"d"]
    if trackers:
        tiers: Value = [[url.encode() for url in tier] for tier in trackers]
        parts += [b"8:announce", encode(trackers[0][0].encode()), b"13:announce-list", encode(tiers)]
    parts += [b"4:info", info]
    if web_seeds:
        parts += [b"8:url-list", encode([url.encode() for url in web_seeds])]
    return b"".join([*parts, b"e"])


def _pieces(info: dict[bytes, Value]) -> tuple[int, bytes]:
    piece_length, hashes = info.get(b"piece length"), info.get(b"pieces")
    if not isinstance(piece_length, int) or not 0 < piece_length <= MAX_PIECE_LENGTH:
        raise MetainfoError(f"its piece length must be a number from 1 to {MAX_PIECE_LENGTH}")
    if hashes is None and info.get(b"meta version") == 2:
        raise MetainfoError(V2_ONLY)
    if not isinstance(hashes, bytes) or len(hashes) % 20:
        raise MetainfoError("its piece hashes are missing or not a multiple of 20 bytes")
    return piece_length, hashes


def _files(info: dict[bytes, Value]) -> tuple[tuple[FileEntry, ...], bool]:
    listed, length = info.get(b"files"), info.get(b"length")
    if listed is None and length is None:
        if b"file tree" in info or info.get(b"meta version") == 2:
            raise MetainfoError(V2_ONLY)
        raise MetainfoError("it lists no files")
    if listed is None:
        return (FileEntry((), _length(length), executable=b"x" in _attributes(info)),), False
    if length is not None:
        raise MetainfoError("it says both that it is one file and that it is several")
    if not isinstance(listed, list) or not listed:
        raise MetainfoError("its list of files is empty or not a list")
    if len(listed) > MAX_FILES:
        raise MetainfoError(f"more than {MAX_FILES} files")
    files = tuple(_file(entry, number) for number, entry in enumerate(_drained(listed), 1))
    if all(file.pad for file in files):
        raise MetainfoError("it lists nothing but padding")
    return files, True


def _drained(listed: list[Value]) -> Iterator[Value]:
    """One after the other, each let go when it has been used: 150 000 files are not held in both their shapes."""
    listed.reverse()
    while listed:
        yield listed.pop()


def _file(entry: Value, number: int) -> FileEntry:
    if not isinstance(entry, dict):
        raise MetainfoError(f"file {number} is not a dictionary")
    attributes = _attributes(entry)
    pad = b"p" in attributes
    path = entry.get(b"path.utf-8")
    if not isinstance(path, list) or not path:
        path = entry.get(b"path")
    if pad and not isinstance(path, list):
        path = [b"pad"]
    if not isinstance(path, list) or not path:
        raise MetainfoError(f"file {number} has no path")
    if len(path) > MAX_COMPONENTS:
        raise MetainfoError(f"file {number} lies more than {MAX_COMPONENTS} folders deep")
    components = []
    for component in path:
        if not isinstance(component, bytes):
            raise MetainfoError(f"file {number} has a path that is not made of strings")
        components.append(_decoded(component))
    if len("/".join(components).encode()) > MAX_PATH_BYTES:
        raise MetainfoError(f"file {number} has a path longer than {MAX_PATH_BYTES} bytes")
    if b"l" in attributes and not pad:
        raise MetainfoError(f"file {number} is a symbolic link, which is not supported")
    return FileEntry(tuple(components), _length(entry.get(b"length"), number), pad, b"x" in attributes)


def _length(told: Value | None, number: int = 1) -> int:
    if not isinstance(told, int) or not 0 <= told <= MAX_TOTAL_BYTES:
        raise MetainfoError(f"file {number} has no length that makes sense")
    return told


def _attributes(entry: dict[bytes, Value]) -> bytes:
    told = entry.get(b"attr")
    return told if isinstance(told, bytes) else b""


def _name(info: dict[bytes, Value]) -> str:
    for key in (b"name.utf-8", b"name"):
        name = info.get(key)
        if isinstance(name, bytes) and name:
            return _decoded(name)
    raise MetainfoError("it has no name")


def _decoded(raw: bytes) -> str:
    """UTF-8; where it is not, each byte that does not fit becomes `%XX`, so that the same torrent always gives the
    same names.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "surrogateescape")
        return "".join(f"%{ord(c) & 0xFF:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)


def _told(top: dict[bytes, Value], key: bytes) -> str | None:
    value = top.get(key + b".utf-8", top.get(key))
    if not isinstance(value, bytes):
        return None
    return value[: 4 * MAX_TEXT].decode("utf-8", "replace")[:MAX_TEXT]


def _private(told: Value | None) -> bool:
    """BEP 27 says 1; any other number but 0 counts too, as with libtorrent: to be wrong here would tell strangers."""
    return isinstance(told, int) and told != 0


def _date(told: Value | None) -> int | None:
    return told if isinstance(told, int) and 0 < told <= MAX_DATE else None


def _trackers(top: dict[bytes, Value]) -> tuple[tuple[str, ...], ...]:
    """BEP 12: `announce` counts only where there is no usable `announce-list`. Each URL once, tiers in order."""
    listed = top.get(b"announce-list")
    tiers: list[list[Value]] = []
    if isinstance(listed, list):
        tiers = [tier if isinstance(tier, list) else [tier] for tier in listed]
    found = _tiers(tiers)
    return found or _tiers([[top.get(b"announce", b"")]])


def _tiers(listed: list[list[Value]]) -> tuple[tuple[str, ...], ...]:
    seen: set[str] = set()
    tiers: list[tuple[str, ...]] = []
    for tier in listed:
        urls: list[str] = []
        for told in tier:
            url = usable_url(told, TRACKER_SCHEMES)
            if url is not None and url not in seen and len(seen) < MAX_TRACKERS:
                seen.add(url)
                urls.append(url)
        if urls:
            tiers.append(tuple(urls))
    return tuple(tiers)


def _web_seeds(told: Value | None) -> tuple[str, ...]:
    """BEP 19: one URL or a list of them."""
    listed = told if isinstance(told, list) else [told] if told is not None else []
    urls = [usable_url(one, WEB_SEED_SCHEMES) for one in listed[:MAX_WEB_SEEDS]]
    return tuple(dict.fromkeys(url for url in urls if url is not None))


def _nodes(told: Value | None) -> tuple[tuple[str, int], ...]:
    """Pairs of host and port; those that are none are left out."""
    found = []
    for one in told[:MAX_NODES] if isinstance(told, list) else ():
        match one:
            case [bytes() as host, int() as port] if 0 < len(host) <= MAX_HOST_BYTES and 0 < port < 65536:
                if host.isascii() and host.decode().isprintable() and b" " not in host:
                    found.append((host.decode(), port))
    return tuple(dict.fromkeys(found))


def usable_url(told: Value, schemes: tuple[str, ...]) -> str | None:
    """The URL, if it is one of those schemes that somebody can be asked by."""
    if not isinstance(told, bytes) or len(told) > MAX_URL_BYTES:
        return None
    try:
        url = told.decode().strip()
    except UnicodeDecodeError:
        return None
    if not url.lower().startswith(schemes) or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, a port beyond 65535
        return None
    return url if usable else None
