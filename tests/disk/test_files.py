"""The descriptor cache: limit, pins, staleness."""

import errno
import os
import threading

import pytest

from bittern.disk.files import OpenFiles


class Folder:
    """Files named by their index, opened like storage does."""

    def __init__(self, path):
        self.path = path
        self.opened = 0

    def opener(self, index):
        def open_file(writable):
            self.opened += 1
            return os.open(self.path / str(index), os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY)

        return open_file


@pytest.fixture
def folder(tmp_path):
    for index in range(10):
        (tmp_path / str(index)).write_bytes(b"file %d" % index)
    return Folder(tmp_path)


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def lease(files, folder, index, *, writable=False, storage="s"):
    return files.lease(storage, index, folder.opener(index), writable=writable)


def test_a_file_is_opened_once(folder):
    files = OpenFiles(4)
    for _ in range(3):
        with lease(files, folder, 1) as fd:
            assert os.pread(fd, 10, 0) == b"file 1"
    assert folder.opened == 1
    files.close_all()
    assert not is_open(fd)


def test_the_least_recently_used_goes_first(folder):
    files = OpenFiles(2)
    for index in (0, 1, 0, 2):
        with lease(files, folder, index):
            pass
    assert len(files) == 2
    assert files.pin_if_open("s", 1) is None
    opened = files.pin_if_open("s", 0)
    assert opened is not None
    files.unpin(opened)
    files.close_all()


def test_what_is_in_use_is_never_closed(folder):
    files = OpenFiles(1)
    with lease(files, folder, 0) as first, lease(files, folder, 1) as second:
        assert is_open(first)
        assert is_open(second)
        files.close_of("s")
        assert is_open(first)
        assert is_open(second)
    assert not is_open(first)
    assert not is_open(second)
    assert len(files) == 0


def test_the_limit_is_restored_when_pins_end(folder):
    files = OpenFiles(1)
    with lease(files, folder, 0), lease(files, folder, 1), lease(files, folder, 2):
        assert len(files) == 3
    assert len(files) == 1
    files.set_limit(0)
    assert len(files) == 0


def test_a_reading_descriptor_is_replaced_for_writing_and_serves_readers_then(folder):
    files = OpenFiles(4)
    with lease(files, folder, 0) as reading:
        with lease(files, folder, 0, writable=True) as writing:
            os.pwrite(writing, b"FILE", 0)
        assert os.pread(reading, 10, 0) == b"FILE 0"
    assert not is_open(reading)
    with lease(files, folder, 0) as again:
        assert again == writing
    files.close_all()


def test_after_close_of_the_file_now_at_the_path_is_seen(folder):
    files = OpenFiles(4)
    with lease(files, folder, 0):
        pass
    with lease(files, folder, 0, storage="other") as other:
        pass
    (folder.path / "new").write_bytes(b"new")
    (folder.path / "new").rename(folder.path / "0")
    files.close_of("s")
    assert is_open(other)
    with lease(files, folder, 0) as fd:
        assert os.pread(fd, 10, 0) == b"new"
    files.close_all()


def test_what_was_opened_across_a_close_of_is_not_kept(folder):
    files = OpenFiles(4)
    plain = folder.opener(0)

    def slow(writable):
        fd = plain(writable)
        files.close_of("s")
        return fd

    with files.lease("s", 0, slow, writable=False) as fd:
        assert is_open(fd)
    assert not is_open(fd)
    assert len(files) == 0


def test_two_that_open_the_same_file_at_once_share_one_descriptor(folder):
    files = OpenFiles(4)
    plain = folder.opener(0)
    losers = []

    def slow(writable):
        fd = plain(writable)
        if not losers:
            losers.append(fd)
            with lease(files, folder, 0) as winner:
                losers.append(winner)
        return fd

    with files.lease("s", 0, slow, writable=False) as fd:
        assert fd == losers[1]
        assert not is_open(losers[0])
    files.close_all()


def test_out_of_descriptors_gives_back_what_rests_and_tries_again(folder):
    files = OpenFiles(4)
    for index in range(3):
        with lease(files, folder, index):
            pass
    plain = folder.opener(5)

    def exhausted(writable):
        if len(files):
            raise OSError(errno.EMFILE, "too many open files")
        return plain(writable)

    with files.lease("s", 5, exhausted, writable=False) as fd:
        assert os.pread(fd, 10, 0) == b"file 5"
    files.close_all()


def test_other_errors_are_the_openers(folder):
    files = OpenFiles(4)
    with pytest.raises(FileNotFoundError), lease(files, folder, 77):
        pass
    assert len(files) == 0


def test_threads_never_read_another_files_bytes(folder):
    files = OpenFiles(2)
    wrong = []

    def reader(seed):
        for turn in range(300):
            index = (turn * seed) % 10
            with lease(files, folder, index) as fd:
                if os.pread(fd, 10, 0) != b"file %d" % index:
                    wrong.append(index)
            if turn % 50 == 0:
                files.close_of("s")

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    files.close_all()
    assert len(files) == 0
