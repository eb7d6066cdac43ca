"""The soak itself runs, and notices what grows."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.figures import Sample, growth


def samples(kib: int, descriptors: int = 0) -> list[Sample]:
    """So many more each time, beside some that come and go."""
    return [
        Sample(
            10.0 * n,
            300,
            9,
            50_000 + kib * n + n % 2 * 300,
            90 + descriptors * n + n % 3 * 50,
            12,
            n % 2,
            200,
        )
        for n in range(12)
    ]


def test_what_grows_is_noticed() -> None:
    assert not growth(samples(0))[1]
    [wrong] = growth(samples(400))[1]
    assert wrong.startswith("resident memory grows")
    [wrong] = growth(samples(0, 10))[1]
    assert wrong.startswith("descriptors grow")
    told, wrong = growth(samples(400)[:6])
    assert "not judged" in told[0]
    assert not wrong


@pytest.mark.proof
def test_a_short_soak() -> None:
    words = [sys.executable, "-m", "tests.soak", "--seconds", "20", "--torrents", "20", "--seed", "1"]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
