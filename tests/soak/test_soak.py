"""The soak itself runs, and notices what grows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.figures import Sample, growth
from tests.soak.inside import figures


def samples(kib: int = 0, in_use_kib: int = 0, descriptors: int = 0, every_s: float = 30.0) -> list[Sample]:
    """So many more each time, beside some that come and go."""
    return [
        Sample(
            every_s * n,
            300,
            9,
            50_000 + kib * n + n % 2 * 300,
            30_000 + in_use_kib * n + n % 3 * 200,
            90 + descriptors * n + n % 3 * 50,
            12,
            n % 2,
            200,
        )
        for n in range(12)
    ]


def test_what_grows_is_noticed() -> None:
    assert not growth(samples())[1]
    [wrong] = growth(samples(kib=1000))[1]
    assert wrong.startswith("rss_kib grows")
    [wrong] = growth(samples(in_use_kib=500))[1]
    assert wrong.startswith("in_use_kib grows")
    [wrong] = growth(samples(descriptors=10))[1]
    assert wrong.startswith("descriptors grow")
    told, wrong = growth(samples(400)[:6])
    assert "not judged" in told[0]
    assert not wrong
    told, wrong = growth(samples(kib=1000, in_use_kib=500, every_s=10.0))
    assert "rss_kib: not judged, 70 s are too few" in told
    assert [one.partition(" ")[0] for one in wrong] == ["in_use_kib"]


def test_what_is_in_use_is_counted_to_the_byte() -> None:
    before = figures()
    small, large = [os.urandom(95) for _ in range(20_000)], [bytearray(100_000) for _ in range(30)]
    after = figures()
    for name, kept in (
        ("small_bytes", sum(map(sys.getsizeof, small))),
        ("large_bytes", len(large) * 100_000),
    ):
        assert kept <= after[name] - before[name] < kept + 500_000


@pytest.mark.proof
def test_a_short_soak() -> None:
    words = [sys.executable, "-m", "tests.soak", "--seconds", "20", "--torrents", "20", "--seed", "1"]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
