"""One transfer over loopback: bittern with libtorrent, each way, and libtorrent with itself for comparison.

`make bench`, or: python -m tests.bench.transfer [--size BYTES] [--piece BYTES] [--runs N] [--json FILE]

A run begins when the TCP connection stands and ends when the leecher has the last piece verified and written
(bittern: `torrent.downloaded`). What bittern needs from there to `torrent.completed` (synced, committed) is shown
beside it. Exit status 1: a payload is wrong, or less was reached than is expected.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench.measure import connected, cpu_seconds, machine_cpu_seconds, peak_rss_bytes
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of, make_payload
from tests.fakes.processes import Program, wait_until

GIB = 1 << 30
EXPECTED_MB_PER_S = 300.0
PIECE_MEMORY = 64 * MIB  # bittern's default
EXPECTED_RSS_BYTES = 96 * MIB + PIECE_MEMORY

Run = dict[str, Any]


def _measured(
    subject: Program, port: int, connect: Callable[[], None], done: Callable[[], object], size: int
) -> Run:
    """From the connection until `done`; the CPU of `subject` until half a second later."""
    machine, own, cpu = machine_cpu_seconds(), time.process_time(), cpu_seconds(subject.pid)
    connect()
    wait_until(lambda: connected(port), 30, "a connection", 0.001)
    began = time.monotonic()
    wait_until(done, 600, "the last piece", 0.005)
    seconds = time.monotonic() - began
    time.sleep(0.5)
    used = cpu_seconds(subject.pid) - cpu
    return {
        "seconds": seconds,
        "mb_per_s": size / 1e6 / seconds,
        "cpu_s_per_gib": used * GIB / size,
        "peak_rss_mib": peak_rss_bytes(subject.pid) / MIB,
        "machine_cpu_s": machine_cpu_seconds() - machine - (time.process_time() - own),
    }


def _libtorrent(work: Path, payload: Payload, folder: Path, *, seed: bool) -> Libtorrent:
    peer = Libtorrent(work)
    peer.seed_mode = seed
    peer.launch()
    peer.add(payload.torrent(work), folder)
    wait_until(lambda: peer.status()["checked"], 60, "libtorrent")
    return peer


def bittern_leeches(work: Path, payload: Payload) -> Run:
    """From libtorrent to bittern."""
    bittern = Bittern(work / "bittern")
    other = _libtorrent(work / "libtorrent", payload, payload.folder, seed=True)
    try:
        with bittern:
            bittern.give(payload)
            bittern.wait("torrent.checked")
            port = bittern.port
            run = _measured(
                bittern,
                port,
                lambda: other.connect(port),
                lambda: bittern.events("torrent.downloaded"),
                payload.total,
            )
            bittern.wait("torrent.completed", 120)
            [downloaded], [completed] = map(bittern.events, ("torrent.downloaded", "torrent.completed"))
            until = [datetime.fromisoformat(one["timestamp"]) for one in (downloaded, completed)]
            run["to_completed_s"] = (until[1] - until[0]).total_seconds()
    finally:
        other.stop()
    run["right"] = digest_of(bittern.downloads / payload.name) == payload.digest
    return run


def bittern_seeds(work: Path, payload: Payload) -> Run:
    """From bittern to libtorrent."""
    bittern = Bittern(work / "bittern", paths={"downloads": str(payload.folder)})
    with bittern:
        bittern.give(payload)
        bittern.wait("torrent.completed", 120)
        other = _libtorrent(work / "libtorrent", payload, work / "got", seed=False)
        try:
            port = bittern.port
            run = _measured(bittern, port, lambda: other.connect(port), other.whole, payload.total)
        finally:
            other.stop()
    run["right"] = digest_of(work / "got" / payload.name) == payload.digest
    return run


def libtorrent_alone(work: Path, payload: Payload) -> tuple[Run, Run]:
    """From libtorrent to libtorrent: as the leecher's figures, and as the seeder's."""
    seeder = _libtorrent(work / "seeder", payload, payload.folder, seed=True)
    leecher = _libtorrent(work / "leecher", payload, work / "got", seed=False)
    try:
        before = cpu_seconds(seeder.pid)
        run = _measured(
            leecher, leecher.port, lambda: seeder.connect(leecher.port), leecher.whole, payload.total
        )
        seeding = {
            **run,
            "cpu_s_per_gib": (cpu_seconds(seeder.pid) - before) * GIB / payload.total,
            "peak_rss_mib": peak_rss_bytes(seeder.pid) / MIB,
        }
    finally:
        leecher.stop()
        seeder.stop()
    run["right"] = seeding["right"] = digest_of(work / "got" / payload.name) == payload.digest
    return run, seeding


def _median(runs: list[Run], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def summary(results: dict[str, list[Run]]) -> dict[str, Any]:
    """Medians, ratios, and whether that is what is expected."""
    keys = ("mb_per_s", "cpu_s_per_gib", "peak_rss_mib")
    told: dict[str, Any] = {
        name: {key: round(_median(runs, key), 2) for key in keys} for name, runs in results.items()
    }
    told["to_completed_s"] = round(_median(results["bittern leech"], "to_completed_s"), 3)
    told["right"] = all(run["right"] for runs in results.values() for run in runs)
    faults = [] if told["right"] else ["a payload is wrong"]
    for role in ("leech", "seed"):
        ours, theirs = told[f"bittern {role}"], told[f"libtorrent {role}"]
        told[f"{role} ratio"] = {
            key: round(ours[key] / theirs[key], 2) if theirs[key] else None for key in keys
        }
        wanted = min(EXPECTED_MB_PER_S, theirs["mb_per_s"] / 2)
        if ours["mb_per_s"] < wanted:
            faults.append(f"{role}: {ours['mb_per_s']:.0f} MB/s, expected {wanted:.0f}")
        if ours["peak_rss_mib"] > EXPECTED_RSS_BYTES / MIB:
            faults.append(f"{role}: {ours['peak_rss_mib']:.0f} MiB at the peak, expected at most 160")
    told["faults"] = faults
    return told


def _print(told: dict[str, Any], runs: int) -> None:
    print(f"\n{'':18}{'MB/s':>8}{'CPU-s/GiB':>12}{'peak RSS MiB':>15}   (medians of {runs})")
    for role in ("leech", "seed"):
        for name in (f"bittern {role}", f"libtorrent {role}", f"{role} ratio"):
            row = told[name]
            print(f"{name:18}{row['mb_per_s']:8}{row['cpu_s_per_gib']!s:>12}{row['peak_rss_mib']:15}")
    print(f"from torrent.downloaded to torrent.completed: {told['to_completed_s']} s")
    print("every payload right" if told["right"] else "A PAYLOAD IS WRONG")
    print("\n".join(["less than expected:", *told["faults"]]) if told["faults"] else "as expected")


def main(argv: list[str]) -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="tests.bench.transfer")
    parser.add_argument("--size", type=int, default=GIB, help="bytes of the payload (1 GiB)")
    parser.add_argument("--piece", type=int, default=MIB, help="bytes of a piece (1 MiB)")
    parser.add_argument("--runs", type=int, default=3, help="of each kind, in turns (3)")
    parser.add_argument(
        "--scratch", type=Path, help="a folder with room for four payloads (the usual temporary)"
    )
    parser.add_argument("--json", type=Path, help="write every run and the summary there")
    words = parser.parse_args(argv)
    results: dict[str, list[Run]] = {
        name: [] for name in ("bittern leech", "libtorrent leech", "bittern seed", "libtorrent seed")
    }
    with tempfile.TemporaryDirectory(prefix="bittern-bench-", dir=words.scratch) as scratch:
        payload = make_payload(Path(scratch, "source"), "payload.bin", words.size, words.piece)
        # The first payload that a virtual machine writes is slow for whoever writes it: that is nobody's figure.
        libtorrent_alone(Path(scratch, "run"), payload)
        shutil.rmtree(Path(scratch, "run"))
        print("warmed up by libtorrent to libtorrent, not counted", flush=True)
        for number in range(words.runs):
            for kind in (bittern_leeches, bittern_seeds, libtorrent_alone):
                work = Path(scratch, "run")
                found = kind(work, payload)
                if isinstance(found, tuple):
                    names = ["libtorrent leech", "libtorrent seed"]
                else:
                    names = ["bittern leech" if kind is bittern_leeches else "bittern seed"]
                    found = (found,)
                for name, run in zip(names, found, strict=True):
                    results[name].append(run)
                    print(f"{number + 1} {name}: {json.dumps(run)}", flush=True)
                shutil.rmtree(work)
    told = summary(results)
    _print(told, words.runs)
    if words.json:
        words.json.write_text(json.dumps({"summary": told, "runs": results}, indent=2) + "\n")
    return 1 if told["faults"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
