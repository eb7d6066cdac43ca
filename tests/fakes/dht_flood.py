"""Somebody who drowns a DHT node in datagrams."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.fakes.processes import Program


class DhtFlood(Program):
    """While it is entered. `told`: what it sent and got, when it is over."""

    def __init__(self, work: Path, mode: str, port: int, per_s: float) -> None:
        super().__init__(work)
        self._words = (mode, port, per_s)
        self.told: dict[str, Any] = {}

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("dht_flood_process.py")
        self.spawn(sys.executable, script, *self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        assert self.process is not None
        line, _ = self.process.communicate(timeout=120)
        assert kind or line, self.log.read_text(errors="replace")
        self.told = json.loads(line or b"{}")
