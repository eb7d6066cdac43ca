"""Checking pieces on disk."""

import errno
import hashlib
import os
import random

import pytest

from bittern.disk.files import OpenFiles
from bittern.disk.hashing import hash_pieces, hash_range
from bittern.disk.storage import Storage
from bittern.errors import StorageError
from bittern.proto.layout import Layout

KIB = 1024


def make(tmp_path, lengths, piece_length, paths=None):
    total = sum(lengths)
    payload = random.Random(total).randbytes(total)
    layout = Layout(piece_length, total, tuple(lengths))
    storage = Storage(OpenFiles(8), str(tmp_path), paths or [f"r/{n}" for n in range(len(lengths))], layout)
    storage.write(0, memoryview(payload))
    hashes = b"".join(
        hashlib.sha1(payload[at : at + piece_length]).digest() for at in range(0, total, piece_length)
    )
    return storage, layout, hashes


@pytest.mark.parametrize("piece_length", [KIB * 16, KIB * 100, KIB * 256])
@pytest.mark.parametrize("buffer_bytes", [KIB * 40, KIB * 128, KIB * 1024])
def test_good_pieces_are_found_with_any_buffer(tmp_path, piece_length, buffer_bytes):
    storage, layout, hashes = make(tmp_path, [300_000, 5, 700_001], piece_length)
    everything = range(layout.piece_count)
    buffer = bytearray(buffer_bytes)
    assert hash_pieces(storage, layout, hashes, everything, buffer) == list(everything)
    some = [index for index in everything if index % 3 != 1]
    assert hash_pieces(storage, layout, hashes, some, buffer) == some
    assert hash_pieces(storage, layout, hashes, [], buffer) == []
    storage.close()


def test_changed_and_missing_bytes_make_only_their_pieces_unfit(tmp_path):
    storage, layout, hashes = make(tmp_path, [200_000, 100_000, 100_000], 16 * KIB)
    with (tmp_path / "r/0").open("r+b") as changed:
        changed.seek(50_000)
        changed.write(b"???")
    with (tmp_path / "r/1").open("r+b") as cut:
        cut.truncate(60_000)
    (tmp_path / "r/2").unlink()
    storage.close()
    unfit = {50_000 // (16 * KIB), *range(260_000 // (16 * KIB), layout.piece_count)}
    found = hash_pieces(storage, layout, hashes, range(layout.piece_count), bytearray(KIB * 128))
    assert found == [index for index in range(layout.piece_count) if index not in unfit]
    storage.close()


def test_a_broken_disk_is_an_error_and_not_a_bad_piece(tmp_path, monkeypatch):
    storage, layout, hashes = make(tmp_path, [200_000], 16 * KIB)

    def preadv(*args):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(StorageError, match="cannot be read"):
        hash_pieces(storage, layout, hashes, [0, 1], bytearray(KIB * 128))
    storage.close()


def test_a_range_is_hashed_across_files(tmp_path):
    storage, _, _ = make(tmp_path, [100, 200, 300], 16 * KIB)
    blob = b"".join((tmp_path / f"r/{n}").read_bytes() for n in range(3))
    assert hash_range(storage, 50, 500, bytearray(7)) == hashlib.sha1(blob[50:550]).digest()
    (tmp_path / "r/1").unlink()
    storage.close()
    assert hash_range(storage, 50, 500, bytearray(7)) is None
    storage.close()
