"""bittern beside libtorrent, in one run: speed, CPU time, memory, latency, and what the wire costs.

    python -m tests.bench                                    every row, as `make bench`
    python -m tests.bench --quick                            a small run of each, as `make bench-quick`
    python -m tests.bench --list                             the rows and their targets
    python -m tests.bench leech --size 256M --runs 3         one row; sizes and pieces also as 64K, 1G
    python -m tests.bench leech seed --only bittern          without the others (no ratios then)
    python -m tests.bench --json after.json                  every run, the medians and the verdicts
    python -m tests.bench --compare before.json after.json   ratios of two commits

A transfer begins when the first TCP connection stands and ends when the leecher has the last piece verified and
written (bittern: `torrent.downloaded`; what it needs from there to `torrent.completed` is shown beside it). CPU time
is user and system time of the whole process and its children, read from /proc until half a second after the end.
Contenders take turns. *libtorrent* in a target is the better of its two settings, figure by figure. Peak RSS is
VmHWM, file pages included. Strangers' CPU time is what neither side nor the benchmark has used: if it is more than
a few tenths of a second, somebody disturbed the run. On ext4 nobody should have deleted thousands of files in the last
minutes: whoever makes files then looks at each of those, and the row `small` takes three times its CPU time.

Exit status 1: a payload is wrong, or less than half of a wanted speed was reached, or memory is over its bound.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import (
    asked,
    busy,
    checks,
    floods,
    limits,
    link,
    report,
    sieges,
    starts,
    swarms,
    transfers,
    wire,
)
from tests.bench.runner import Place, Row, commit, run_row
from tests.fakes.processes import keep_bytecode

ROWS: list[Row] = [
    *transfers.ROWS,
    *swarms.ROWS,
    *asked.ROWS,
    *busy.ROWS,
    *checks.ROWS,
    *starts.ROWS,
    *limits.ROWS,
    *wire.ROWS,
    *link.ROWS,
    *sieges.ROWS,
    *floods.ROWS,
]


def size(text: str) -> int:
    """Bytes; K, M and G are powers of 1024."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def warm_up(place: Place) -> None:
    """The first use of its memory is slow for a virtual machine: that is nobody's figure."""
    transfers.libtorrent_to_libtorrent(place, tuned=True)
    place.put_away()


def main(argv: list[str]) -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help="their names; if none is named, all but the extra ones")
    parser.add_argument("--quick", action="store_true", help="one small run of each")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument(
        "--size", type=size, help="bytes that are moved, where a row does not live on its size"
    )
    parser.add_argument("--piece", type=size, help="bytes of a piece, likewise")
    parser.add_argument("--runs", type=int, help="of each contender")
    parser.add_argument("--only", default="", help="contenders whose names begin so")
    parser.add_argument("--no-warm-up", action="store_true", help="when the run before has just done that")
    parser.add_argument(
        "--hasty", action="store_true", help="nor wait for a quiet machine: figures that do not count"
    )
    parser.add_argument(
        "--scratch", type=Path, help="a folder with room for 8 GiB, for many500 18 (else the usual)"
    )
    parser.add_argument("--json", type=Path, help="write every run and what came of it there")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="two such files")
    words = parser.parse_args(argv)
    keep_bytecode()
    if words.compare:
        print(report.comparison(*(json.loads(path.read_text()) for path in words.compare)))
        return 0
    known = {row.name: row for row in ROWS}
    if unknown := set(words.rows) - set(known):
        parser.error(f"no such row: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    if words.list:
        for row in ROWS:
            extra = " (extra)" if row.by_name_only else ""
            print(f"{row.name:10} {row.title}{extra}: {'; '.join(map(str, row.targets))}")
        return 0
    usual = [row for row in ROWS if not row.by_name_only and (row.in_quick or not words.quick)]
    return measure([known[name] for name in words.rows] or usual, words)


def measure(rows: list[Row], words: argparse.Namespace) -> int:
    """Runs them, tells what came of them."""
    results: dict[str, Any] = {
        "commit": commit(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": f"{os.cpu_count()} cores, {platform.release()}, Python {platform.python_version()}",
        "rows": {},
        "faults": [],
    }
    verdicts: dict[str, list[report.Verdict]] = {}
    with tempfile.TemporaryDirectory(prefix="bittern-bench-", dir=words.scratch) as scratch:
        place = Place(Path(scratch), quick=words.quick, size=words.size, piece=words.piece)
        if not (words.no_warm_up or words.hasty):
            warm_up(place)
            print("warmed up by libtorrent to libtorrent, not counted", flush=True)
        for row in rows:
            count = words.runs or (1 if words.quick else row.runs)
            began = time.monotonic()
            runs = run_row(row, place, count, only=words.only, hasty=words.hasty)
            found = report.medians(runs)
            verdicts[row.name] = [report.judge(found, target) for target in row.targets]
            results["faults"] += report.faults(row.name, runs, verdicts[row.name])
            results["rows"][row.name] = {
                "seconds": time.monotonic() - began,
                "medians": found,
                "verdicts": [asdict(one) for one in verdicts[row.name]],
                "runs": runs,
            }
            print("\n" + report.row_text(row.title, found, verdicts[row.name], count) + "\n", flush=True)
            if words.json:
                words.json.write_text(json.dumps(results, indent=2) + "\n")
    print(report.summary_text(verdicts))
    print("\n".join(["", "BROKEN:", *results["faults"]]) if results["faults"] else "\nevery payload right")
    return 1 if results["faults"] else 0


if __name__ == "__main__":
    # Ended from outside, it still ends what it has started and removes its folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
