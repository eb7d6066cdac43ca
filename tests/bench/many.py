"""Thousands of complete torrents in one process, beside libtorrent and Transmission in the same run.

    python -m tests.bench.many                                     as `make bench-many`: 100 to 10 000, 50 minutes
    python -m tests.bench.many --count 100,1000 --idle 5           quickly
    python -m tests.bench.many --pieces 1000 --clients bittern     torrents of a thousand pieces, ours alone
    python -m tests.bench.many --json after.json                   every figure, written after each client's run
    python -m tests.bench.many --json after.json --go-on           what is not yet in that file

Each client starts empty and gets all torrents at once: ours by renaming them into its watched folder, libtorrent by
one call for all, Transmission through its watched folder. All lie whole on disk, with one tracker, which is a process
of its own and only counts. Then it idles; one torrent is asked for a block; it is stopped and started again.

    dropped to announced   until the tracker has heard of each as a seed: taken in durably, checked, announced
    KiB each               resident memory a torrent: what it grew by from the run of a thousand on (or of the fewest)
    idle CPU               of one core, between announces: it begins `--settle` seconds after the last of them
    parked                 from connecting to the first block of a torrent that nobody has talked to; whoever asks has
                           just asked somebody else, and is awake
    told stopped           torrents of which the tracker heard `stopped`
    handshake, loaded, announced   after the start of the process; `loaded` is told by bittern only

A torrent's data is 64 KiB in one piece, or a thousand pieces of 1 KiB. Nothing is checked again at the restart.

Ours writes what the last fifteen seconds have changed (at ten thousand that is a second of work) within fifteen more:
with a shorter `--settle` the end of the intake is measured, and not idling.

Of the others, who has failed or would, by the figures of fewer, take longer than `--limit` is left out from there on,
and it is said why. A run that does not come to its end is told with what it got, and does not count.
"""

import argparse
import contextlib
import os
import platform
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.bench.crowd import CLIENTS, Contender, Library, make_library
from tests.bench.ledger import Ledger, LedgerUnfit
from tests.bench.measure import cpu_seconds
from tests.bench.report import OURS, Run, Target, faults, judge, medians, row_text
from tests.bench.runner import Place, Row, commit, run_row
from tests.fakes.counting_tracker import CountingTracker
from tests.fakes.processes import HOST, keep_bytecode, wait_until

BLOCK = 1 << 10
SLOPE_FROM = 1000


def rss_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        [line] = [line for line in status if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def greet(port: int, info_hash: bytes, source: str = HOST) -> socket.socket:
    """A connection on which the handshake was answered; `OSError` when it was not."""
    connection = socket.create_connection((HOST, port), 10, (source, 0))
    try:
        connection.sendall(b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-XX0000-" + os.urandom(12))
        got = b""
        while len(got) < 68:
            more = connection.recv(68 - len(got))
            if not more:
                raise ConnectionResetError("no answer to a handshake")
            got += more
        assert got[28:48] == info_hash
    except BaseException:
        connection.close()
        raise
    return connection


def first_greeting(port: int, info_hash: bytes, timeout_s: float) -> None:
    """Returns when a handshake is answered."""

    def answered() -> bool:
        try:
            greet(port, info_hash).close()
        except OSError:
            return False
        return True

    wait_until(answered, timeout_s, "an answer to a handshake", 0.005)


def first_block(port: int, info_hash: bytes) -> None:
    """Returns with the first block of a torrent in hand."""
    with contextlib.closing(greet(port, info_hash)) as connection, connection.makefile("rb") as stream:
        connection.sendall(struct.pack("!IB", 1, 2))
        while True:
            (length,) = struct.unpack("!I", stream.read(4))
            message = stream.read(length)
            if message[:1] == b"\x01":
                connection.sendall(struct.pack("!IBIII", 13, 6, 0, 0, BLOCK))
            elif message[:1] == b"\x07":
                assert len(message) == 9 + BLOCK
                return


def rehearse() -> None:
    """Gets a block from ourselves: who asks has slept as long as who is asked, and what it imports when it asks for the
    first time took twice as long as the answer.
    """
    with socket.create_server((HOST, 0)) as door:
        thread = threading.Thread(target=serve_one, args=(door,), daemon=True)
        thread.start()
        first_block(door.getsockname()[1], os.urandom(20))
        thread.join()


def serve_one(door: socket.socket) -> None:
    """One block to the first who comes."""
    connection, _ = door.accept()
    with connection, connection.makefile("rb") as stream:
        connection.sendall(stream.read(68))
        stream.read(5)
        connection.sendall(struct.pack("!IB", 1, 1))
        stream.read(17)
        connection.sendall(struct.pack("!IBII", 9 + BLOCK, 7, 0, 0) + bytes(BLOCK))


def one(place: Place, kind: type[Contender], count: int, pieces: int, words: argparse.Namespace) -> Run:
    """All figures of one client with so many torrents; those that there are when it fails."""
    began = time.monotonic()
    place.work.mkdir(parents=True)
    run: Run = {"count": count}
    with CountingTracker(place.work / "tracker") as tracker:
        library = make_library(place.work, count, pieces, tracker.url)
        client = kind(place.work / "client", library)
        try:
            client.start()
            first(run, client, tracker, library, words)
            again(run, client, tracker, library, words)
            client.stop()
        except (AssertionError, OSError) as broken:
            run |= {"right": False, "failed": str(broken)}
            with contextlib.suppress(AssertionError, OSError):
                client.stop()
        else:
            run["right"] = True
    run["whole_s"] = time.monotonic() - began
    return run


def first(
    run: Run, client: Contender, tracker: CountingTracker, library: Library, words: argparse.Namespace
) -> None:
    """All at once, idling, the end."""
    count = len(library.info_hashes)
    began = time.monotonic()
    client.give()
    run["taken_in_s"] = tracker.wait_seeds(count, words.limit) - began
    run["taken_in_cpu_s"] = cpu_seconds(client.pid)
    time.sleep(words.settle)
    run["rss_mib"] = rss_mib(client.pid)
    before, began = cpu_seconds(client.pid), time.monotonic()
    time.sleep(words.idle)
    run["idle_cpu_percent"] = 100 * (cpu_seconds(client.pid) - before) / (time.monotonic() - began)
    rehearse()
    began = time.monotonic()
    first_block(client.port, library.info_hashes[count // 2])
    run["parked_ms"] = 1000 * (time.monotonic() - began)
    began = client.stop()
    run["stop_s"] = time.monotonic() - began
    run["told_stopped"] = tracker.counts()["stopped"]


def again(
    run: Run, client: Contender, tracker: CountingTracker, library: Library, words: argparse.Namespace
) -> None:
    """The restart."""
    count = len(library.info_hashes)
    heard = tracker.counts()
    tracker.forget()
    began = time.monotonic()
    client.restart()
    first_greeting(client.port, library.info_hashes[-1], 120)
    run["handshake_s"] = time.monotonic() - began
    run["announced_s"] = tracker.wait_seeds(count, words.limit) - began
    run["restart_cpu_s"] = cpu_seconds(client.pid)
    run["connections"] = tracker.counts()["connections"] - heard["connections"]
    time.sleep(words.settle)
    run["restart_rss_mib"] = rss_mib(client.pid)
    run |= client.told()


def targets(count: int) -> list[Target]:
    """For our daemon; what they are is for ten thousand but where it says otherwise."""
    each = [
        Target("idle_cpu_percent", 0.5, at_most=True),
        Target("parked_ms", 20, at_most=True),
        Target("stop_s", 5, at_most=True),
        Target("handshake_s", 0.7, at_most=True),
        Target("loaded_s", 3, at_most=True),
        Target("kib_per_torrent", 3, at_most=True),
        Target("restart_kib_per_torrent", 3, at_most=True),
    ]
    bound = 4.0 if count <= 1000 else 45.0
    return [Target("taken_in_s", bound, at_most=True), *each]


def add_slopes(rows: Mapping[int, Mapping[str, Sequence[Run]]]) -> None:
    """What a torrent more costs each contender, from the first count on; `rows` by their counts."""
    bases: dict[str, Run] = {}
    for count in sorted(rows):
        for name, [run] in rows[count].items():
            if "failed" in run:
                continue
            base = bases.setdefault(name, run)
            if base["count"] < SLOPE_FROM <= count:
                # what the first hundred cost is mostly what the process costs
                base = bases[name] = run
            for key, slope in (
                ("rss_mib", "kib_per_torrent"),
                ("restart_rss_mib", "restart_kib_per_torrent"),
            ):
                if count > base["count"]:
                    run[slope] = 1024 * (run[key] - base[key]) / (count - base["count"])


def why_not(name: str, count: int, fewer: Mapping[int, Mapping[str, Sequence[Run]]], limit_s: float) -> str:
    """Why a contender is left out; "" when it is not. `fewer` by their counts."""
    runs = [(less, fewer[less][name][0]) for less in sorted(fewer) if less < count and name in fewer[less]]
    if not runs or name == OURS:
        return ""
    less, last = runs[-1]
    if "failed" in last:
        return f"{less} were too many for it: {last['failed']}"
    longest_s = max(last["taken_in_s"], last["announced_s"])
    if longest_s * count / less > limit_s:
        return f"{less} took it {longest_s:.0f} s: more than the {limit_s:g} s that it may take"
    return ""


def names(text: str) -> list[str]:
    found = text.split(",")
    if unknown := set(found) - set(CLIENTS):
        raise argparse.ArgumentTypeError(f"no such client: {', '.join(sorted(unknown))}")
    return found


def counts(text: str) -> list[int]:
    return sorted({int(word) for word in text.split(",")})


def known_counts(ledger: Ledger, pieces: int) -> list[int]:
    found = [re.fullmatch(rf"many(\d+)x{pieces}", name) for name in ledger.rows()]
    return [int(one[1]) for one in found if one]


def measure(place: Place, words: argparse.Namespace, ledger: Ledger) -> None:
    """All that is not yet in the ledger, which then has it."""
    for pieces in words.pieces:
        # those of an earlier day too: slopes begin at them
        rows = {count: ledger.runs(f"many{count}x{pieces}") for count in known_counts(ledger, pieces)}
        for count in words.count:
            name = f"many{count}x{pieces}"
            rows[count] = ledger.runs(name)
            for who in words.clients:
                if who in rows[count] and "failed" not in rows[count][who][0]:
                    print(f"  {name}: {who}: measured already", flush=True)
                    continue
                reason = why_not(who, count, rows, words.limit)
                if not reason:
                    run_one = partial(one, kind=CLIENTS[who], count=count, pieces=pieces, words=words)
                    runs = run_row(Row(name, name, {who: run_one}), place, 1, only="", hasty=words.hasty)
                    reason = "" if runs else "not to be run here"
                    for [run] in runs.values():
                        ledger.note(name, who, run)
                if reason:
                    ledger.leave_out(name, who, reason)
            add_slopes(rows)
            found = medians(rows[count])
            verdicts = [judge(found, target) for target in targets(count)] if OURS in rows[count] else []
            ours = {who: of_one for who, of_one in rows[count].items() if who == OURS}
            ledger.judged(name, verdicts, faults(name, ours, verdicts))
            print("\n" + row_text(f"{count} torrents, pieces each: {pieces}", found, verdicts, 1))
            for who, [run] in rows[count].items():
                if "failed" in run:
                    print(f"  {who} failed: {run['failed']}")
            for who, reason in ledger.left_out(name).items():
                print(f"  {who} was left out: {reason}")
            print(flush=True)


def main(argv: Sequence[str]) -> int:
    """Gives the exit status: 1 when a run of ours failed, 2 for words that make no sense."""
    parser = argparse.ArgumentParser(
        prog="tests.bench.many", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=counts, default=[100, 1000, 5000, 10_000], help="torrents")
    parser.add_argument("--pieces", type=counts, default=[1, 1000], help="of a torrent: 1, 1000, or both")
    parser.add_argument("--clients", type=names, default=list(CLIENTS), help="of " + ",".join(CLIENTS))
    parser.add_argument("--idle", type=float, default=60, help="seconds over which idling is measured")
    parser.add_argument(
        "--settle", type=float, default=20, help="seconds before it, and before memory is measured"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds that anything may take")
    parser.add_argument("--hasty", action="store_true", help="do not wait for a quiet machine")
    parser.add_argument("--scratch", type=Path, help="a folder with room for 4 GiB (the usual temporary)")
    parser.add_argument("--json", type=Path, help="write every figure there, after each client's run")
    parser.add_argument("--go-on", action="store_true", help="with what that file has not, or what failed")
    words = parser.parse_args(argv)
    if words.go_on and words.json is None:
        parser.error("--go-on wants the file: --json FILE")
    terms = {
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores, {platform.release()}, Python {platform.python_version()}",
        "idle_s": words.idle,
        "settle_s": words.settle,
    }
    try:
        ledger = Ledger(words.json, terms, go_on=words.go_on)
    except LedgerUnfit as unfit:
        parser.error(str(unfit))
    keep_bytecode()
    try:
        with tempfile.TemporaryDirectory(prefix="bittern-many-", dir=words.scratch) as scratch:
            measure(Place(Path(scratch), quick=False), words, ledger)
    except KeyboardInterrupt:
        print("stopped" + (f"; --json {words.json} --go-on goes on" if words.json else ""))
        return 128 + signal.SIGINT
    if ledger.faults:
        print("\n".join(["BROKEN:", *ledger.faults]))
    return 1 if ledger.faults else 0


def stopped(*_: object) -> None:
    """As by Ctrl-C: it still ends what it has started and removes its folder."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stopped)
    sys.exit(main(sys.argv[1:]))
