"""A row of the benchmark, and how it is run: its contenders take turns, in one folder that is empty for each."""

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.measure import machine_cpu_seconds
from tests.bench.report import Run, Target
from tests.fakes.payloads import MIB, Payload, make_payload
from tests.fakes.processes import Program

QUIET_CORES = 0.25


class Place:
    """Where rows run, and how much they move. Payloads are made once."""

    def __init__(
        self, scratch: Path, *, quick: bool, size: int | None = None, piece: int | None = None
    ) -> None:
        self.scratch, self.quick = scratch, quick
        self._size, self._piece = size, piece
        self._made: dict[object, Payload] = {}
        self._past = 0

    @property
    def work(self) -> Path:
        """Of the present run alone."""
        return self.scratch / "run"

    def put_away(self) -> None:
        """Gives the room of the last run back, but keeps its files, empty, until the end of all.

        Of files that were just deleted ext4 looks at each, for one to six minutes, whenever another one is made: behind
        a run of 10 000 small files that was two thirds of the next leecher's CPU time, whoever it was.
        """
        if not self.work.exists():
            return
        for folder, _, names in os.walk(self.work):
            for name in names:
                path = Path(folder, name)
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    if status.st_nlink > 1:  # perhaps to what the next run wants too
                        path.unlink()
                    else:
                        os.truncate(path, 0)
        self._past += 1
        self.work.rename(self.scratch / f"past{self._past}")

    def size(self, full: int, quick: int) -> int:
        """Bytes: what was asked for on the command line, or what this kind of benchmark takes."""
        return self._size or (quick if self.quick else full)

    def payload(self, sizes: int | Sequence[int], piece: int = MIB) -> Payload:
        piece = self._piece or piece
        key = (sizes if isinstance(sizes, int) else tuple(sizes), piece)
        if key not in self._made:
            self._made[key] = make_payload(
                self.scratch / f"source{len(self._made)}", f"payload{len(self._made)}", sizes, piece
            )
            os.sync()  # now, and not as background writing beside what is measured
        return self._made[key]


@dataclass(frozen=True)
class Row:
    """One kind of work, by each contender in turn."""

    name: str
    title: str
    contenders: Mapping[str, Callable[[Place], Run]]
    targets: Sequence[Target] = ()
    runs: int = 5
    quick_without: str = "libtorrent default"
    """Whom the quick benchmark leaves out, to be quick."""
    in_quick: bool = True
    """Is it one of the quick benchmark's?"""
    by_name_only: bool = False
    """Not among those that are run when none is named."""

    def who(self, *, quick: bool, only: str) -> list[str]:
        """The contenders of a run, in turn; `only` those whose names begin so."""
        return [
            name
            for name in self.contenders
            if name.startswith(only) and not (quick and name == self.quick_without)
        ]


def settle(longest_s: float = 10) -> None:
    """Until the machine has been idle for a moment; what still runs then shows up as strangers' CPU time."""
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        began, busy, own = time.monotonic(), machine_cpu_seconds(), time.process_time()
        time.sleep(0.3)
        used = machine_cpu_seconds() - busy - (time.process_time() - own)
        if used < QUIET_CORES * (time.monotonic() - began):
            return


def order(names: Sequence[str], turn: int) -> list[str]:
    """Of three, six turns are all orders that there are."""
    first = turn % len(names)
    rotated = [*names[first:], *names[:first]]
    return rotated[::-1] if turn % 2 else rotated


def run_row(row: Row, place: Place, count: int, *, only: str, hasty: bool) -> dict[str, list[Run]]:
    """`count` runs of each contender (whose name begins with `only`), interleaved; nothing where the row
    needs what is not here (root, a device).

    Each goes first in turn, and each after each: memory and inodes that the one before has just given back make a
    difference to who comes next.
    """
    found: dict[str, list[Run]] = {name: [] for name in row.who(quick=place.quick, only=only)}
    names = list(found)
    for turn in range(count):
        for name in order(names, turn):
            of_one = found[name]
            if not hasty:
                settle()
            try:
                of_one.append(row.contenders[name](place))
            except pytest.skip.Exception as lacking:
                print(f"  {row.name}: {lacking}", flush=True)
                return {}
            except (AssertionError, OSError) as broken:
                # One bad run is told at the end; the others still say something.
                of_one.append({"right": False, "failed": str(broken)})
            finally:
                while Program.started:
                    Program.started.pop().kill()
                place.put_away()
            shown = {
                key: round(value, 3) if isinstance(value, float) else value
                for key, value in of_one[-1].items()
                if not isinstance(value, list)
            }
            print(f"  {turn + 1} {row.name}: {name}: {json.dumps(shown)}", flush=True)
    return found


def commit() -> str:
    """Of the tree that is measured; "+" for one with changes."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=8"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()
