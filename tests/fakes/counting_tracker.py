"""A tracker for thousands of torrents, in a process of its own, that only counts who is there."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.fakes.processes import HOST, Program, wait_until


class CountingTracker(Program):
    """Runs while it is entered. `ports` are those of the peers that it names for every torrent; set them before."""

    ports: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("counting_tracker_process.py")
        self.spawn(sys.executable, script, HOST, *self.ports, stdout=subprocess.PIPE)
        assert self.process is not None
        assert self.process.stdout is not None
        self.url = f"http://{HOST}:{int(self.process.stdout.readline())}/announce"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def counts(self) -> dict[str, Any]:
        """`seeds`, `stopped` (torrents), `announces`, `connections`, `seed_at` (monotonic)."""
        return self._ask("/counts")

    def forget(self) -> None:
        """Nobody is there."""
        self._ask("/forget")

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(self.url.replace("/announce", path), timeout=120) as reply:
            return json.loads(reply.read())

    def wait_seeds(self, count: int, timeout_s: float) -> float:
        """Until so many torrents are announced as seeds: when the last was (monotonic)."""

        def all_there() -> float:
            counts = self.counts()
            return counts["seed_at"] if counts["seeds"] >= count else 0.0

        return float(wait_until(all_there, timeout_s, f"{count} torrents at the tracker", 0.1))
