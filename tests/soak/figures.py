"""What the daemon holds, sampled in calm moments, and whether it grows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

SAMPLES_AT_LEAST = 6
"""Of one life, without those of its warm-up: from fewer nothing is read."""
WARM_UP = 1 / 3
"""Of that life's samples: memory is still finding its size."""
KIB_A_MINUTE: Final = {"in_use_kib": 512.0, "rss_kib": 1536.0}
"""More than that, by least squares, is a leak. What is in use tells early; what is resident moves in steps, as room
between what is in use is found or not, and tells of what the former cannot know.
"""
JUDGED_AFTER_S: Final = {"in_use_kib": 60.0, "rss_kib": 180.0}
"""So long a life has to be sampled after its warm-up."""
FLOOR_RISES: Final = {"descriptors": 24, "threads": 6, "children": 1, "tasks": 60}
"""They come and go with peers; but what leaks never goes, so that the fewest of the later half are more than before."""


@dataclass(frozen=True)
class Sample:
    at_s: float
    torrents: int
    peers: int
    rss_kib: int
    in_use_kib: int
    descriptors: int
    threads: int
    children: int
    tasks: int

    def row(self) -> str:
        return "  ".join(f"{value:>11.0f}" for value in asdict(self).values())


HEADING = "  ".join(f"{field.name:>11}" for field in fields(Sample))


def sample(pid: int, at_s: float, torrents: int, peers: int, tasks: int, in_use_bytes: int) -> Sample:
    of = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (of / "status").read_text().splitlines())
    return Sample(
        at_s,
        torrents,
        peers,
        int(status["VmRSS"].split()[0]),
        in_use_bytes // 1024,
        len(list((of / "fd").iterdir())),
        int(status["Threads"]),
        children_of(pid),
        tasks,
    )


def children_of(pid: int) -> int:
    return sum(len(task.read_text().split()) for task in Path(f"/proc/{pid}/task").glob("*/children"))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares."""
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else 0.0


def growth(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """What to print of the samples of one life, and what is wrong."""
    warm = samples[round(len(samples) * WARM_UP) :]
    if len(warm) < SAMPLES_AT_LEAST:
        return [f"growth: not judged, {len(warm)} samples after the warm-up are too few"], []
    told, wrong = [], []
    for name, at_most in KIB_A_MINUTE.items():
        if warm[-1].at_s - warm[0].at_s < JUDGED_AFTER_S[name]:
            told.append(f"{name}: not judged, {warm[-1].at_s - warm[0].at_s:.0f} s are too few")
            continue
        a_minute = 60 * slope([(one.at_s, getattr(one, name)) for one in warm])
        told.append(f"{name}: {a_minute:+.0f} a minute (at most {at_most:g})")
        if a_minute > at_most:
            wrong.append(f"{name} grows by {a_minute:.0f} a minute")
    half = len(warm) // 2
    for name, at_most in FLOOR_RISES.items():
        before, after = (min(getattr(one, name) for one in some) for some in (warm[:half], warm[half:]))
        told.append(f"{name}: never fewer than {before}, then {after} (at most {at_most} more)")
        if after - before > at_most:
            wrong.append(f"{name} grow: never fewer than {before}, and then never fewer than {after}")
    return told, wrong
