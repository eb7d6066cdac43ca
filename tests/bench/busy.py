"""Many torrents that download at the same time, beside one as large as all of them from the same seeders."""

import hashlib
import os
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from bittern.proto.bencode import encode
from tests.bench.crowd import drop_all
from tests.bench.measure import Meter
from tests.bench.report import Run
from tests.bench.runner import Place, Row
from tests.bench.sides import LONGEST_S, monotonic_of
from tests.bench.transfers import MEMORY, speed
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.counting_tracker import CountingTracker
from tests.fakes.payloads import MIB
from tests.fakes.processes import wait_until

COUNT = 500
SEEDERS = 4
PIECE = 256 * 1024


CONTENT_BYTES = 16 * MIB
"""What a payload is made of, again and again: those who send read it from memory, be it of one torrent or of many."""


def make_torrents(folder: Path, count: int, size: int, piece: int) -> bytes:
    """All of the same bytes (the content that is returned, repeated), which lie on the disk once below `data`; their
    names make them different torrents.
    """
    data, torrents = folder / "data", folder / "torrents"
    data.mkdir(parents=True)
    torrents.mkdir()
    content = os.urandom(min(size, CONTENT_BYTES) // piece * piece or size)
    with (folder / "content").open("wb") as file:
        for at in range(0, size, len(content)):
            file.write(content[: size - at])
    hashes = [hashlib.sha1(content[at : at + piece]).digest() for at in range(0, len(content), piece)]
    hashes = [hashes[number % len(hashes)] for number in range(-(-size // piece))]
    if size % piece:
        with (folder / "content").open("rb") as file:
            file.seek(size // piece * piece)
            hashes[-1] = hashlib.sha1(file.read()).digest()
    for number in range(count):
        name = f"torrent{number:03d}"
        (data / name).hardlink_to(folder / "content")
        info = {b"name": name.encode(), b"length": size, b"piece length": piece, b"pieces": b"".join(hashes)}
        (torrents / f"{name}.torrent").write_bytes(encode({b"info": info}))
    os.sync()
    return content


def is_whole(path: Path, size: int, content: bytes) -> bool:
    """Is that file so many bytes of the content, repeated?"""
    with path.open("rb") as file:
        whole = all(file.read(len(content)) == content[: size - at] for at in range(0, size, len(content)))
        return whole and not file.read(1)


def download(place: Place, count: int, size: int, piece: int) -> Run:
    """All dropped at once. Their rates together from when all of them download until a tenth are whole; and all of it,
    from the drop until the last is whole.
    """
    content = make_torrents(place.work, count, size, piece)
    with ExitStack() as stack:
        seeders = [
            stack.enter_context(Libtorrent(place.work / f"seeder{number}")) for number in range(SEEDERS)
        ]
        for seeder in seeders:
            words = {"folder": str(place.work / "data"), "torrents": str(place.work / "torrents")}
            seeder.call("add_all", seed_mode=True, **words)
            wait_until(lambda one=seeder: one.call("count") == count, 60, "the seeders")
        tracker = CountingTracker(place.work / "tracker")
        tracker.ports = tuple(seeder.port for seeder in seeders)
        stack.enter_context(tracker)
        ours = Bittern(place.work / "bittern")
        del ours.tables["hook"]
        ours.write_config()
        stack.enter_context(ours)
        # what is imported to serve clients is of no transfer
        ours.wait("control.ready", LONGEST_S)
        coming = place.work / "coming"
        coming.mkdir()
        for path in (place.work / "torrents").iterdir():
            (coming / path.name).write_bytes(encode_with(path.read_bytes(), tracker.url))
        meter = Meter(ours.pid, *(seeder.pid for seeder in seeders))
        began = time.monotonic()
        drop_all(coming, ours.drop)
        with ours.api() as client:
            ours.wait("torrent.checked", LONGEST_S, count=count)
            whole = len(ours.events("torrent.downloaded"))
            first_s, first_bytes = time.monotonic(), downloaded_bytes(client)
            ours.wait("torrent.downloaded", LONGEST_S, count=max(1, count // 10))
            last_s, last_bytes = time.monotonic(), downloaded_bytes(client)
        ours.wait("torrent.downloaded", LONGEST_S, count=count)
        ended = [monotonic_of(event) for event in ours.events("torrent.downloaded")]
        run = meter.read(began, max(ended), count * size)
        run["from_drop_mb_per_s"] = run["mb_per_s"]
        if whole <= count // 20:  # else they are too small for all to be under way at the same time
            run["mb_per_s"] = (last_bytes - first_bytes) / 1e6 / (last_s - first_s)
        run["middle_s"] = sorted(ended)[count // 2] - began
        ours.wait("torrent.completed", LONGEST_S, count=count)
        # beside them lies the mark by which the folder is known again
        got = list(ours.downloads.glob("torrent*"))
        run["right"] = len(got) == count and all(is_whole(path, size, content) for path in got)
    return run


def downloaded_bytes(client: httpx.Client) -> int:
    """By all torrents together."""
    return sum(
        one["downloaded_bytes"]
        for one in client.get("/api/v1/torrents").raise_for_status().json()["torrents"]
    )


def encode_with(blob: bytes, url: str) -> bytes:
    """The .torrent with that tracker."""
    return b"d8:announce%d:%b" % (len(url), url.encode()) + blob[1:]


def many(place: Place) -> Run:
    """Five hundred, each large enough that all of them download at the same time."""
    return download(place, COUNT, place.size(8000 * MIB, 256 * MIB) // COUNT, PIECE)


def one(place: Place) -> Run:
    """The same bytes in one."""
    return download(place, 1, place.size(8000 * MIB, 256 * MIB) // COUNT * COUNT, PIECE)


ROWS = [
    Row(
        "many500",
        "500 torrents of 16 MiB that download at once from 4 seeders, beside one as large as all",
        {"bittern": many, "one torrent": one},
        (speed(0.7, "one torrent"), MEMORY),
        runs=3,
        quick_without="",
        by_name_only=True,
    ),
]
