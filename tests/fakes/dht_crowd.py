"""A network of our own DHT nodes, in a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.fakes.processes import Program


class DhtCrowd(Program):
    """Runs while it is entered; each node knows some others then."""

    def __init__(self, work: Path, count: int, introducer: str) -> None:
        super().__init__(work)
        self._count, self._introducer = count, introducer

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("dht_crowd_process.py")
        self.spawn(
            sys.executable,
            script,
            self._count,
            self._introducer,
            self.work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", self.log.read_text(errors="replace")
        return self

    def __exit__(self, *_: object) -> None:
        self.must_live()
        self.kill()
