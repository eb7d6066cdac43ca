"""A real tracker, HTTP and UDP: opentracker. Debian's build is IPv4's, and serves only the info hashes it is given."""

import os
import urllib.request
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote_from_bytes

from bittern.proto.bencode import decode
from tests.fakes.need import need
from tests.fakes.processes import HOST, Program, free_port, wait_until


class Tracker(Program):
    """Runs while it is entered."""

    def __init__(self, work: Path, *info_hashes: str, host: str = HOST) -> None:
        need("opentracker")
        super().__init__(work)
        # Started by root it becomes `nobody` and makes this folder its root.
        work.chmod(0o755)
        self._asked_first = os.urandom(20)
        listed = [*info_hashes, self._asked_first.hex()]
        (work / "white").write_text("".join(f"{info_hash}\n" for info_hash in listed))
        self.host, self.port = host, free_port()
        self.url = f"http://{host}:{self.port}/announce"
        self.udp_url = f"udp://{host}:{self.port}/announce"

    def __enter__(self) -> Self:
        self.spawn(
            "opentracker", "-i", self.host, "-p", self.port, "-P", self.port, "-d", self.work, "-w", "white"
        )
        wait_until(self._answers, 120, "the tracker")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def peers(self, info_hash: str) -> tuple[int, int]:
        """(seeds, leeches) that have announced themselves."""
        files = self._ask("scrape", bytes.fromhex(info_hash))[b"files"]
        found = files.get(bytes.fromhex(info_hash), {b"complete": 0, b"incomplete": 0})
        return found[b"complete"], found[b"incomplete"]

    def wait_for(self, info_hash: str, *, seeds: int = 0, leeches: int = 0) -> None:
        wait_until(
            lambda: self.peers(info_hash) >= (seeds, leeches) and self.peers(info_hash)[1] >= leeches,
            180,
            f"{seeds} seeds and {leeches} leeches at the tracker",
            0.1,
        )

    def _answers(self) -> bool:
        """It serves what it was given: it listens before its other thread has read the list, and refuses till then."""
        self.must_live()
        try:
            reply = self._ask("announce", self._asked_first, f"&peer_id={20 * '-'}&port=1&left=1")
        except OSError:  # URLError is one, and a time that ran out
            return False
        return b"failure reason" not in reply

    def _ask(self, what: str, info_hash: bytes, more: str = "") -> dict[bytes, Any]:
        asked = (
            f"http://{self.host}:{self.port}/{what}?info_hash={quote_from_bytes(info_hash, safe='')}{more}"
        )
        with urllib.request.urlopen(asked, timeout=30) as reply:
            found: dict[bytes, Any] = decode(reply.read())
        return found
