"""Rate limits of the real process: both ways at once, changed while it runs, and shared by all peers."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload
from tests.fakes.processes import Program, wait_until

PEERS = 3
WINDOWS = 2
"""Of ten seconds: there is something to move for so long."""


def test_limits_of_both_directions(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    """Three seeds and three leechers at once: nothing comes or goes sooner than the limits allow, new ones included."""
    down, up = (payload_of(name, PEERS * MIB // size, 65536) for name, size in (("down", 1), ("up", PEERS)))
    slow, fast = 32 * 1024, MIB
    bittern = Bittern(tmp_path / "bittern", limits={"download_rate": slow, "upload_rate": slow})
    shutil.copy(up.folder / up.name, bittern.downloads)
    seeds, leechers = Libtorrent(tmp_path / "seeds"), Libtorrent(tmp_path / "leechers")
    seeds.sessions = leechers.sessions = PEERS
    seeds.seed_mode = True
    with seeds, leechers, bittern:
        for payload in (down, up):
            bittern.give(payload)
            bittern.wait("torrent.checked", info_hash=payload.info_hash)
        seeds.add(down.torrent(tmp_path), down.folder)
        leechers.add(up.torrent(tmp_path), tmp_path / "got")
        began = time.monotonic()
        for side in (seeds, leechers):
            side.wait_for("checked")
            side.connect(bittern.port)
        wait_until(lambda: leechers.status()["downloaded"] >= 64 * 1024, 120, "the first blocks")
        # What was saved up before counts, a quarter of a second at most.
        assert leechers.status()["downloaded"] <= 1.05 * slow * (time.monotonic() - began + 0.25)
        assert not bittern.events("torrent.downloaded", info_hash=down.info_hash)

        bittern.tables["limits"] = {"download_rate": fast, "upload_rate": fast}
        bittern.write_config()
        earliest = [time.monotonic() + 0.95 * (PEERS * MIB / fast - slow / fast * (time.monotonic() - began))]
        bittern.reload()
        bittern.wait("config.reloaded")
        bittern.wait("torrent.downloaded", info_hash=down.info_hash)
        earliest.append(time.monotonic())
        leechers.wait_for("finished")
        assert min(earliest[1], time.monotonic()) >= earliest[0] - 0.25

        # Nobody was left behind: the last of the three did not get its share after the others.
        shares = [got for _, got in leechers.shares()]
        assert min(shares) >= MIB


def unread_bytes(port: int) -> int:
    """What lies in the kernel on its way to that port: sent by the others, and not read."""
    mark = f":{port:04X}"
    unread = 0
    with open("/proc/net/tcp") as table:
        for row in table:
            words = row.split()
            if words[1].endswith(mark):
                unread += int(words[4].partition(":")[2], 16)
            elif words[2].endswith(mark):
                unread += int(words[4].partition(":")[0], 16)
    return unread


class HeldUp:
    """For how long programs could have run and did not, one after the other, and the machine itself did not."""

    def __init__(self, *programs: Program) -> None:
        self._before = [(one, one.waits_s()) for one in programs]
        self._stolen_before_s = self._stolen_s()

    def seconds(self) -> float:
        """Since this was made."""
        held_up_s = sum(one.held_up_s(before) for one, before in self._before)
        return self._stolen_s() - self._stolen_before_s + held_up_s

    def _stolen_s(self) -> float:
        with open("/proc/stat") as told:
            return int(told.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


@pytest.mark.proof
@pytest.mark.parametrize(
    ("rate", "peers"), [(16 * 1024, 4), (300_000, 1), (MIB, 50), (16 * MIB, 50), (100 * MIB, 4)]
)
@pytest.mark.parametrize("direction", ["download", "upload"])
def test_a_rate_is_kept(
    tmp_path: Path, payload_of: Callable[..., Payload], direction: str, rate: int, peers: int
) -> None:
    """Over ten seconds, among as many peers as there are, evenly."""
    size = 25 * rate if direction == "download" else 50 * rate // peers
    payload = payload_of("limited", max(MIB, size), 65536 if rate < 16 * MIB else MIB)
    bittern = Bittern(
        tmp_path / "bittern",
        limits={f"{direction}_rate": rate, "upload_slots": peers},
        network={"max_peers_per_torrent": peers},
    )
    if direction == "upload":
        shutil.copy(payload.folder / payload.name, bittern.downloads)
    peer = Libtorrent(tmp_path / "peer")
    peer.sessions, peer.seed_mode = peers, direction == "download"
    with peer, bittern:
        bittern.give(payload)
        bittern.wait("torrent.checked")
        peer.add(payload.torrent(tmp_path), payload.folder if peer.seed_mode else tmp_path / "got")
        peer.wait_for("checked")
        connected_at = time.monotonic()
        peer.connect(bittern.port)
        which = 0 if direction == "download" else 1

        def shares() -> list[int]:
            return [one[which] for one in peer.shares()]

        def moved() -> int:
            return sum(shares()) - (unread_bytes(bittern.port) if direction == "download" else 0)

        wait_until(lambda: moved() > 3 * rate, 120, "the first seconds' worth")
        # Whoever else is at work on this machine may keep either side from running: then it is measured again, and in
        # the end asked for what the kernel let them do.
        for last in (False,) * (WINDOWS - 1) + (True,):
            held_up = HeldUp(bittern, peer)
            before, at, began = shares(), time.monotonic(), moved()
            time.sleep(10)
            measured, passed_s = moved() - began, time.monotonic() - at
            gained = [now - then for then, now in zip(before, shares(), strict=True)]
            held_up_s = held_up.seconds()
            # A seed counts what the kernel takes of it: of a thin stream that says little.
            judged = direction == "upload" or rate > MIB
            jain = sum(gained) ** 2 / (peers * sum(share * share for share in gained) or 1)
            even = jain > 0.95 or not judged
            if even and measured / passed_s == pytest.approx(rate, rel=0.03):
                break
            told = f"{measured / passed_s:.0f} of {rate} a second: {gained}, held up for {held_up_s:.2f} s"
            assert held_up_s > 0.03 * passed_s, told
            assert not last or measured >= 0.97 * rate * (passed_s - held_up_s), told
        # What was saved up before counts, a quarter of a second at most; nobody else's work makes it more.
        assert moved() <= 1.03 * rate * (time.monotonic() - connected_at + 0.25)
