"""Large pieces: hashed while their spans land."""

import random
from pathlib import Path

import pytest
import trio

from bittern.disk.disk import Disk, HashJob, Job
from bittern.engine.events import Checked, Completed, PeerBanned
from bittern.engine.spans import HELD_AT_MOST, SpanDigest
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent

MIB = 1 << 20


@pytest.mark.parametrize("memory_mib", [4, 16, 64])
def test_in_whatever_order_they_come_each_is_handed_over_once_and_hashed_in_turn(memory_mib: int) -> None:
    rng = random.Random(memory_mib)
    for disorder in [0, 1, 2, 4, 8, 40] * 20:
        digest, count = SpanDigest(memory_mib * MIB, MIB), 40
        coming = sorted(range(count), key=lambda span: span + rng.random() * disorder)
        under_way: list[tuple[int, bool]] = []
        over: list[int] = []
        hashed: list[int] = []
        whole: set[int] = set()
        while coming or under_way:
            if coming and (not under_way or rng.random() < 0.5):
                whole.add(coming[0])
                due = digest.landed(coming.pop(0))
            else:
                _, with_hash = under_way.pop(rng.randrange(len(under_way)))
                due = digest.written(hashed=with_hash)
            under_way += due
            over += [span for span, _ in due]
            hashed += [span for span, with_hash in due if with_hash]
            assert sum(with_hash for _, with_hash in under_way) <= 1
            missing = next((span for span in range(count) if span not in whole), count)
            behind = [span for span in whole - set(over) if span > missing]
            assert len(behind) <= min(HELD_AT_MOST, memory_mib // 8)
        assert sorted(over) == list(range(count))
        assert hashed == list(range(digest.spans))
        assert disorder > 1 or digest.spans == count


async def test_a_large_piece_is_not_read_back_and_a_bad_one_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_back: list[Job] = []
    submit = Disk.submit

    def noted(disk: Disk, job: Job) -> None:
        if isinstance(job, HashJob):
            read_back.append(job)
        submit(disk, job)

    monkeypatch.setattr(Disk, "submit", noted)
    made = make_torrent(size=7 * MIB // 2, piece_length=2 * MIB)
    async with running(tmp_path, piece_memory=8 * MIB) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash, source="127.0.0.21") as liar:
            await liar.say(m.HAVE_ALL, m.UNCHOKE)
            await liar.serve(made, spoil=frozenset({0, 1}))
        await engine.until(PeerBanned)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
    assert made.is_at(tmp_path / "downloads")
    assert not read_back
