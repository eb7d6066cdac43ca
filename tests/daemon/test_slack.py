"""When memory is given back."""

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from bittern.daemon.slack import QUIET_S, WORTH_IT, Slack
from bittern.engine.events import Checked, Loaded, TorrentFacts
from bittern.terms import InfoHash

FACTS = TorrentFacts(
    number=1,
    info_hash=InfoHash(bytes(20)),
    name="n",
    path="/d/n",
    folder="/d",
    size_bytes=1,
    labels=(),
    trackers=(),
    downloaded_bytes=0,
)
CHECKED = Checked(facts=FACTS, complete=True, hashed_bytes=1, at_wall=time.time())


def noting(calls: list[float]) -> Callable[[], Awaitable[None]]:
    async def trim() -> None:
        calls.append(trio.current_time())
        await trio.lowlevel.checkpoint()

    return trim


async def test_once_after_each_burst_and_not_before_it_is_over(autojump_clock: MockClock) -> None:
    calls: list[float] = []
    slack = Slack(noting(calls))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slack.run)
        for burst in (1, 2):
            for _ in range(2 * WORTH_IT):
                slack.noted(CHECKED)
                await trio.sleep(0.1)
            assert len(calls) == burst - 1
            await trio.sleep(QUIET_S * 4)
            assert len(calls) == burst
        nursery.cancel_scope.cancel()


async def test_a_few_are_not_worth_it_but_are_remembered(autojump_clock: MockClock) -> None:
    calls: list[float] = []
    slack = Slack(noting(calls))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slack.run)
        for _ in range(WORTH_IT - 1):
            slack.noted(CHECKED)
        slack.noted(Loaded(torrents=1, complete=1))
        await trio.sleep(QUIET_S * 4)
        assert not calls
        slack.noted(CHECKED)
        await trio.sleep(QUIET_S * 4)
        assert len(calls) == 1
        nursery.cancel_scope.cancel()


FREED = """
import ctypes, trio
from bittern.daemon.slack import give_back

def resident():
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1]) * 4096

kept = [bytes(20_000) for _ in range(5_000)]
del kept[:-1]  # the last one lies above all that is free
before = resident()
trio.run(give_back)
print(before - resident(), hasattr(ctypes.CDLL(None), "malloc_trim"))
"""


def test_what_is_free_in_the_middle_is_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True).stdout
    freed, is_glibc = told.split()
    if is_glibc != "True":
        pytest.skip("not glibc")
    assert int(freed) > 50_000_000


HEAPS = """
import ctypes, threading
from bittern.daemon.slack import keep_one_heap

keep_one_heap()
gate = threading.Barrier(6)
kept = []

def work():
    gate.wait()
    kept.append([bytes(20_000) for _ in range(20)])
    gate.wait()

threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
if hasattr(libc, "malloc_info"):
    libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
    libc.fflush(None)
"""


def test_threads_share_one_heap() -> None:
    told = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, text=True, check=True).stdout
    if "<malloc" not in told:
        pytest.skip("not glibc")
    assert told.count("<heap nr=") == 1
