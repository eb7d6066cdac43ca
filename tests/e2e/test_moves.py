"""Torrents that are moved between real file systems, killed at random moments."""

import contextlib
import random
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from bittern.disk.copying import SLICE_BYTES
from tests.fakes.bittern_process import COMMAND, Bittern
from tests.fakes.need import need
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import PATIENCE_S, wait_until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    need("mount", "umount", root=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def copied(folder: Path) -> int:
    """Of the file that is being copied."""
    sizes = 0
    for path in folder.rglob("*.bittern-moving"):
        with contextlib.suppress(FileNotFoundError):  # it got its name meanwhile
            sizes += path.stat().st_size
    return sizes


def lies_in(bittern: Bittern, payload: Payload, folder: Path) -> bool:
    """By its record: a kill may come before the move is told."""
    record = bittern.records()[payload.info_hash]
    return (record.folder, record.moving_to) == (str(folder), "")


def names(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".bittern-folder"
    )


def asked_to_move(bittern: Bittern, payload: Payload, target: Path) -> None:
    """While `bittern move` is still waiting for its answer: the move may be over by then."""
    # a torrent can be complete before commands are answered
    bittern.wait("control.ready")
    words = ("move", "--config", bittern.config, payload.name, target)
    asking = subprocess.Popen([COMMAND, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: copied(target) or lies_in(bittern, payload, target), PATIENCE_S, "the move", 0.001)
    finally:
        asking.kill()
        asking.wait()


def move_to_and_fro(
    bittern: Bittern, payload: Payload, folders: tuple[Path, Path], kills: int, in_copies: int
) -> None:
    """The first kill of each move comes at once, later ones at random; it goes on until as many as are asked for came
    while something was being copied.
    """
    rng = random.Random(kills)
    in_time = 0
    bittern.start()
    bittern.wait("torrent.completed")
    for _ in range(200):
        if kills <= 0 and in_time >= in_copies:
            break
        source, target = folders
        asked_to_move(bittern, payload, target)
        before, whole = 0, names(target)
        for life in range(50):
            # lives that are all too short for a slow machine end nothing: the last of them is not cut
            going_on = life < 40 and (kills > 0 or in_time < in_copies)
            patience = (rng.uniform(0, 0.5) if life else 0) if going_on else PATIENCE_S
            try:
                wait_until(partial(lies_in, bittern, payload, target), patience, "the move's end", 0.01)
                break
            except AssertionError:
                assert patience < 1, bittern.tail()
            bittern.kill()
            kills -= 1
            now = copied(target)
            in_time += now > 0
            found = [one for one in names(target) if not one.endswith("bittern-moving")]
            # a copy only grows, until it has its name; the slice that a kill came into is copied again
            assert now > before - SLICE_BYTES or len(found) > len(whole), "a copy began anew"
            before, whole = now, found
            for path in payload.file_paths():
                assert (source / path).exists() or (target / path).exists()
            bittern.start()
        assert digest_of(target / payload.name) == payload.digest
        assert names(target) == sorted(payload.file_paths())
        assert names(source) == []
        folders = target, source
    assert in_time >= in_copies, "too few kills came in the middle of a copy"
    assert not bittern.events("torrent.move_failed")
    assert not bittern.events("torrent.failed")
    # all that was hashed is what was found at the very beginning
    assert len(bittern.events("torrent.checked")) == 1
    assert bittern.stop() == 0
    bittern.check_unhurt()


def start_moving(
    tmp_path: Path,
    disk: Path,
    payload_of: Callable[..., Payload],
    sizes: list[int],
    kills: int,
    in_copies: int = 0,
) -> None:
    payload = payload_of("moved", sizes, MIB)
    bittern = Bittern(tmp_path / "bittern")
    bittern.write_config(
        f'[[watch]]\nfolder = "{tmp_path}/other"\ndownloads = "{disk}"\n[storage]\nreserve = 0\n'
    )
    (tmp_path / "other").mkdir()
    subprocess.run(["cp", "-r", payload.folder / payload.name, bittern.downloads], check=True)
    bittern.give(payload)
    move_to_and_fro(bittern, payload, (bittern.downloads, disk), kills, in_copies)


def test_moved_and_killed(tmp_path: Path, disk: Path, payload_of: Callable[..., Payload]) -> None:
    start_moving(tmp_path, disk, payload_of, [9 * MIB, 100, 3 * MIB], 1)


@pytest.mark.proof
def test_sixty_kills_while_it_is_moved(
    tmp_path: Path, disk: Path, payload_of: Callable[..., Payload]
) -> None:
    start_moving(tmp_path, disk, payload_of, [220 * MIB, 1000, 100 * MIB, 0], 60, in_copies=10)
