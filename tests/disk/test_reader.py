"""Reading from front to back, with two descriptors."""

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from bittern.disk.files import OpenFiles
from bittern.disk.reader import ReadStopped, SequentialReader
from bittern.disk.storage import Storage
from bittern.errors import StorageError
from bittern.proto.layout import Layout

LENGTHS = (1000, 0, 300, 70_000, 512, 5, 40_000)
PATHS = ("r/a", "r/none", "r/b/x", "r/b/y", None, "r/c/d/z", "r/w")


class World:
    """A torrent of `LENGTHS` on disk, the fifth a pad, and a reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = OpenFiles(8)
        layout = Layout(16384, sum(LENGTHS), LENGTHS)
        self.storage = Storage(self.files, str(folder), PATHS, layout)
        payload = bytearray(random.Random(3).randbytes(layout.total_bytes))
        pad = layout.file_offset(4)
        payload[pad : pad + LENGTHS[4]] = bytes(LENGTHS[4])
        self.payload = bytes(payload)
        self.storage.write(0, memoryview(self.payload))
        self.storage.close()
        self.stop = threading.Event()
        self.reader = SequentialReader(self.storage, self.stop)

    def read(self, offset: int, length: int) -> bytes | None:
        buffer = memoryview(bytearray(length))
        return bytes(buffer) if self.reader.read_if_there(offset, buffer) else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("step", [700, 16384, 200_000])
def test_all_bytes_are_read_with_two_descriptors_of_its_own(world: World, step: int) -> None:
    before = open_descriptors()
    found = b""
    while len(found) < len(world.payload):
        part = world.read(len(found), min(step, len(world.payload) - len(found)))
        assert part is not None
        found += part
        assert open_descriptors() <= before + 2
    assert found == world.payload
    assert len(world.files) == 0
    world.reader.close()
    assert open_descriptors() == before
    # and it goes on where it is told to
    assert world.read(1100, 50) == world.payload[1100:1150]
    world.reader.close()


def test_a_short_file_and_a_missing_one_are_not_there_and_the_rest_is(world: World) -> None:
    os.truncate(world.folder / "r/a", 600)
    (world.folder / "r/b/y").unlink()
    assert world.read(0, 600) == world.payload[:600]
    assert world.read(0, 601) is None
    assert world.read(1000, 300) == world.payload[1000:1300]
    assert world.read(1300, 1) is None
    assert world.read(71_300, 517) == world.payload[71_300:71_817]
    (world.folder / "r/b/x").unlink()
    (world.folder / "r/b").rmdir()
    assert world.read(1000, 300) is None
    assert world.read(71_300, 517) == world.payload[71_300:71_817]
    world.reader.close()


def test_what_is_put_in_the_way_of_a_file_or_a_folder_is_an_error(world: World) -> None:
    before = open_descriptors()
    (world.folder / "r/a").unlink()
    os.mkfifo(world.folder / "r/a")
    with pytest.raises(StorageError):
        world.read(0, 10)
    (world.folder / "r/b").rename(world.folder / "elsewhere")
    (world.folder / "r/b").symlink_to(world.folder / "elsewhere")
    with pytest.raises(StorageError):
        world.read(1000, 10)
    world.reader.close()
    assert open_descriptors() == before


def test_a_broken_disk_is_an_error_that_names_the_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(*_args: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(StorageError, match=r"r/a: cannot be read \(broken\)"):
        world.read(0, 10)
    world.reader.close()


def test_once_stopped_nothing_is_read(world: World) -> None:
    assert world.read(0, 10) is not None
    world.stop.set()
    with pytest.raises(ReadStopped):
        world.read(10, 10)
    world.reader.close()
