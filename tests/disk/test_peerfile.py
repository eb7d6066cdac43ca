"""The file of kept peers: what is written is read, whatever else is there is refused in one line, and it is bounded."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.disk.peerfile import (
    ADDRESSES_AT_MOST,
    BYTES_AT_MOST,
    PEERS_AT_MOST,
    TORRENTS_AT_MOST,
    Compact,
    PeerFile,
    dump_peers,
    load_peers,
    pack_peers,
    unpack_peers,
)
from bittern.errors import StorageError
from bittern.proto.bencode import encode
from bittern.terms import Address, InfoHash

FOUR, SIX = Address("192.0.2.7", 6881), Address("2001:db8::7", 51413)


def info_hash(number: int) -> InfoHash:
    return InfoHash(number.to_bytes(20))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = PeerFile(str(tmp_path))
    assert file.load() == {}
    kept = {info_hash(1): pack_peers([SIX, FOUR]), info_hash(2): pack_peers([FOUR])}
    file.save(kept)
    assert file.load() == kept
    assert unpack_peers(kept[info_hash(1)]) == [FOUR, SIX]
    # as trackers write it
    assert file.path.read_bytes() == encode(
        {
            b"format": 1,
            b"peers": {
                bytes(19) + b"\1": b"\xc0\0\2\7\x1a\xe1",
                bytes(19) + b"\2": b"\xc0\0\2\7\x1a\xe1",
            },
            b"peers6": {bytes(19) + b"\1": bytes.fromhex("20010db8000000000000000000000007c8d5")},
        }
    )


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("torrents", [1, 1000, TORRENTS_AT_MOST + 5])
def test_the_file_is_bounded(torrents: int, six: bool) -> None:
    host = "2001:db8::{:x}" if six else "192.0.2.{}"
    peers = pack_peers([Address(host.format(n), 6881) for n in range(1, 101)])
    blob = dump_peers({info_hash(n): peers for n in range(torrents)})
    assert len(blob) <= BYTES_AT_MOST
    found = load_peers(blob)
    assert len(found) == min(torrents, TORRENTS_AT_MOST)
    counts = [len(unpack_peers(one)) for one in found.values()]
    assert sum(counts) <= ADDRESSES_AT_MOST
    assert set(counts) == {min(PEERS_AT_MOST, ADDRESSES_AT_MOST // len(found))}


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(blob: bytes) -> None:
    with contextlib.suppress(ValueError):
        load_peers(blob)


@given(
    at=st.integers(0, 120),
    byte=st.integers(0, 255),
    cut=st.integers(0, 120),
)
def test_a_damaged_file_is_read_or_refused(at: int, byte: int, cut: int) -> None:
    blob = bytearray(dump_peers({info_hash(n): pack_peers([FOUR, SIX]) for n in (1, 2)}))
    blob[at] = byte
    for damaged in (bytes(blob), bytes(blob[:cut])):
        try:
            found = load_peers(damaged)
        except ValueError:
            continue
        for compact in found.values():
            assert all(0 < one.port < 65536 for one in unpack_peers(compact))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"no bencode",
        b"de",
        encode({b"format": 2, b"peers": {}, b"peers6": {}}),
        encode({b"format": 1, b"peers": []}),
        encode({b"format": 1, b"peers": {b"short": b"\xc0\0\2\7\x1a\xe1"}, b"peers6": {}}),
        encode({b"format": 1, b"peers": {bytes(20): b"\xc0\0\2\7\x1a"}, b"peers6": {}}),
        encode({b"format": 1, b"peers": {bytes(20): 7}, b"peers6": {}}),
        b"l" * 1000,
        b"0" * (BYTES_AT_MOST + 1),
    ],
)
def test_what_is_no_such_file_is_refused_in_a_line_that_says_what_follows(
    tmp_path: Path, blob: bytes
) -> None:
    file = PeerFile(str(tmp_path))
    file.path.write_bytes(blob)
    with pytest.raises(StorageError) as caught:
        file.load()
    assert str(file.path) in str(caught.value)
    assert "written anew" in str(caught.value)
    assert str(caught.value).isprintable()


def test_nobodys_addresses_are_left_out() -> None:
    nobodys = b"\0\0\0\0\x1a\xe1", b"\xe0\0\0\1\x1a\xe1", b"\xc0\0\2\7\0\0"
    assert unpack_peers(Compact(b"".join(nobodys))) == []


def test_a_folder_in_its_place_is_a_line_too(tmp_path: Path) -> None:
    file = PeerFile(str(tmp_path))
    file.path.mkdir()
    with pytest.raises(StorageError, match=r"peers\.bencode: cannot be read"):
        file.load()
    with pytest.raises(StorageError, match=r"peers\.bencode: cannot be written"):
        file.save({})
