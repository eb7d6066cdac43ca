"""`peers.bencode` in the state folder: where good peers of each download were, as trackers write it (BEP 7, 23).

    format   1
    peers    info hash -> 6 bytes of each IPv4 address
    peers6   info hash -> 18 bytes of each IPv6 address

One file for all torrents, of bounded size. It holds no claim about data: when it is lost, a restart waits for those
who name peers.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bittern.disk.atomic import write_atomic
from bittern.disk.refusal import storage_error
from bittern.errors import BencodeError, StorageError
from bittern.proto.bencode import Value, decode, encode
from bittern.proto.compact import V4_BYTES, V6_BYTES, pack_address, unpack_addresses
from bittern.terms import Address, InfoHash

FORMAT: Final = 1
PEERS_AT_MOST: Final = 50
"""Of one torrent."""

ADDRESSES_AT_MOST: Final = 20_000
"""Of all together: of more torrents than four hundred each has fewer."""

TORRENTS_AT_MOST: Final = 10_000
BYTES_AT_MOST: Final = 2 * 1024 * 1024
ITEMS_AT_MOST: Final = 8 * TORRENTS_AT_MOST
_HASH_BYTES: Final = 20


class Compact(NamedTuple):
    """Addresses of both families, the best first."""

    v4: bytes = b""
    v6: bytes = b""


def pack_peers(addresses: Iterable[Address]) -> Compact:
    """Not bounded."""
    found = list(addresses)
    return Compact(
        b"".join([pack_address(one) for one in found if ":" not in one.host]),
        b"".join([pack_address(one) for one in found if ":" in one.host]),
    )


def unpack_peers(compact: Compact, most: int = PEERS_AT_MOST) -> list[Address]:
    """Up to `most`; what is nobody's address is left out."""
    v4 = unpack_addresses(compact.v4, V4_BYTES - 2, most)
    return v4 + unpack_addresses(compact.v6, V6_BYTES - 2, most - len(v4))


def dump_peers(kept: Mapping[InfoHash, Compact]) -> bytes:
    """The file, of as much as may be kept."""
    some = dict(list(kept.items())[:TORRENTS_AT_MOST])
    most = max(1, min(PEERS_AT_MOST, ADDRESSES_AT_MOST // max(1, len(some))))
    peers: dict[bytes, Value] = {}
    peers6: dict[bytes, Value] = {}
    for info_hash, compact in some.items():
        v4 = compact.v4[: most * V4_BYTES]
        v6 = compact.v6[: (most - len(v4) // V4_BYTES) * V6_BYTES]
        if v4:
            peers[info_hash] = v4
        if v6:
            peers6[info_hash] = v6
    return encode({b"format": FORMAT, b"peers": peers, b"peers6": peers6})


def load_peers(blob: bytes) -> dict[InfoHash, Compact]:
    """The reverse; `ValueError` for anything else."""
    if len(blob) > BYTES_AT_MOST:
        raise ValueError("is too large")
    try:
        table = decode(blob, max_depth=2, max_items=ITEMS_AT_MOST)
    except BencodeError as error:
        raise ValueError(f"is damaged ({error})") from None
    if not isinstance(table, dict) or table.get(b"format") != FORMAT:
        raise ValueError("is of another format")
    v4, v6 = _family(table, b"peers", V4_BYTES), _family(table, b"peers6", V6_BYTES)
    return {key: Compact(v4.get(key, b""), v6.get(key, b"")) for key in v4 | v6}


def _family(table: Mapping[bytes, Value], key: bytes, address_bytes: int) -> dict[InfoHash, bytes]:
    found: dict[InfoHash, bytes] = {}
    match table.get(key):
        case dict(listed):
            pass
        case _:
            raise ValueError(f"is damaged (no `{key.decode()}`)")
    for info_hash, blob in listed.items():
        if len(info_hash) != _HASH_BYTES or not isinstance(blob, bytes) or len(blob) % address_bytes:
            raise ValueError(f"is damaged (in `{key.decode()}`)")
        found[InfoHash(info_hash)] = blob[: PEERS_AT_MOST * address_bytes]
    return found


class PeerFile:
    """The file in that state folder. Synchronous; for a thread."""

    def __init__(self, state: str) -> None:
        self._folder = state
        self.path = Path(state) / "peers.bencode"

    def load(self) -> dict[InfoHash, Compact]:
        """Nothing when there is none; `StorageError` when it cannot be read or used."""
        try:
            with self.path.open("rb") as file:
                return load_peers(file.read(BYTES_AT_MOST + 1))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise storage_error(error, "read", str(self.path), self._folder) from error
        except ValueError as error:
            raise StorageError(
                f"{self.path}: {error}; it is written anew, and until others name peers downloads may wait",
                path=str(self.path),
            ) from None

    def save(self, kept: Mapping[InfoHash, Compact]) -> None:
        """Durable when it returns; `StorageError`: it may be as it was."""
        try:
            write_atomic(self.path, dump_peers(kept))
        except OSError as error:
            raise storage_error(error, "written in the state folder", str(self.path), self._folder) from error
