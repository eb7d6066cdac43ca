"""Who is meant by a name, a pattern or the beginning of an info hash."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from bittern.control import turns
from bittern.control.selection import SelectionError, one, select


@dataclass(frozen=True, eq=False)
class Named:
    record: SimpleNamespace
    info_hash: bytes


def torrent(name: str, digits: str) -> Any:
    return Named(SimpleNamespace(name=name), bytes.fromhex(digits.ljust(40, "0")))


A, B, C, D = (
    torrent("debian-12", "aa11"),
    torrent("debian-11", "aa22"),
    torrent("a[b]", "bb"),
    torrent("aa1", "cc"),
)
ALL = [A, B, C, D]


@pytest.mark.parametrize(
    ("patterns", "meant"),
    [
        (["debian-12"], [A]),
        (["debian-*"], [A, B]),
        (["aa2"], [B]),
        (["AA2"], [B]),
        (["a[b]"], [C]),
        (["aa1"], [D]),  # a name comes before a hash
        (["cc", "debian-1?"], [A, B, D]),
        (["*"], ALL),
    ],
)
async def test_who_is_meant(patterns: list[str], meant: list[Any]) -> None:
    assert await select(ALL, patterns) == meant


@pytest.mark.parametrize("pattern", ["aa", "nobody", "dd", "x*", "", "z" * 2000])
async def test_nobody_or_more_than_one(pattern: str) -> None:
    with pytest.raises(SelectionError):
        await select(ALL, [pattern])


def test_only_a_hash_is_one() -> None:
    assert one(ALL, "aa11") is A
    for wrong in ("aa", "debian-12", ""):
        with pytest.raises(SelectionError):
            one(ALL, wrong)


async def test_many_patterns_leave_others_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    count = 0

    async def others() -> None:
        nonlocal count
        while True:
            count += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await select(ALL, ["a*", "d*", "debian-1?", "debian-12"])
        assert count >= 3
        nursery.cancel_scope.cancel()
