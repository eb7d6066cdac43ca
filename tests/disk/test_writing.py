"""Writing: all bytes in their place, whether they stay in memory or not."""

import errno
import os

import pytest

from bittern.disk import writing
from bittern.disk.writing import UNKEPT_BYTES, write_at

SIZES = (1, UNKEPT_BYTES - 1, UNKEPT_BYTES, 3 * UNKEPT_BYTES + 5)


@pytest.fixture
def fd(tmp_path):
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_all_of_it_lies_where_it_belongs(fd, size, kept):
    body = os.urandom(size)
    write_at(fd, memoryview(body), 77, kept=kept)
    assert os.pread(fd, size + 100, 0) == bytes(77) + body


def test_where_the_kernel_cannot_do_without_memory_it_is_written_as_ever(fd, monkeypatch):
    asked = []

    def refused(*words):
        asked.append(words)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(writing.os, "pwritev", refused)
    body = os.urandom(SIZES[-1])
    write_at(fd, memoryview(body), 0, kept=False)
    assert asked
    assert os.pread(fd, len(body) + 1, 0) == body


def test_a_kernel_that_takes_it_in_parts_gets_the_rest(fd, monkeypatch):
    whole = os.pwritev

    def in_parts(fd, buffers, offset, _):
        return whole(fd, [buffers[0][:UNKEPT_BYTES]], offset)

    monkeypatch.setattr(writing.os, "pwritev", in_parts)
    body = os.urandom(SIZES[-1])
    write_at(fd, memoryview(body), 5, kept=False)
    assert os.pread(fd, len(body) + 6, 0) == bytes(5) + body


def test_a_full_disk_is_told_of_by_both_ways(fd, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(writing.os, "pwritev", full)
    monkeypatch.setattr(writing.os, "pwrite", full)
    for kept in (True, False):
        with pytest.raises(OSError, match="no space"):
            write_at(fd, memoryview(bytes(UNKEPT_BYTES)), 0, kept=kept)


def test_what_is_to_stay_is_never_written_the_other_way(fd, monkeypatch):
    monkeypatch.setattr(writing.os, "pwritev", None)
    write_at(fd, memoryview(bytes(UNKEPT_BYTES)), 0, kept=True)
