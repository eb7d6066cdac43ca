"""Real BitTorrent clients as peers: plaintext TCP on loopback, no discovery but the tracker, no limits."""

import base64
import contextlib
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from bittern.proto.bencode import encode
from tests.fakes.need import need
from tests.fakes.processes import HOST, Program, free_port, wait_until


class Client(Program, ABC):
    """Runs while it is entered; it has one torrent, downloading or (with all its data) seeding."""

    dials_loopback: ClassVar[bool] = True
    """Does it connect to 127.0.0.1 when a tracker names that?"""
    makes_empty_files: ClassVar[bool] = True

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.port = free_port()

    def __enter__(self) -> Self:
        self.launch()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def launch(self) -> None:
        """Starts it; it can take torrents when this returns."""

    @abstractmethod
    def add(self, torrent: Path, folder: Path) -> None:
        """Gives it a torrent with its data (none, or all of it) below `folder`."""

    @abstractmethod
    def whole(self) -> bool:
        """Has it every piece, checked?"""

    def wait_whole(self, timeout_s: float = 300) -> None:
        wait_until(self._whole_or_dead, timeout_s, f"{type(self).__name__} to have it whole")

    def _whole_or_dead(self) -> bool:
        self.must_live()
        return self.whole()

    def _up(self, asks: Any) -> None:
        def answers() -> bool:
            self.must_live()
            try:
                asks()
            except (OSError, urllib.error.URLError):
                return False
            return True

        wait_until(answers, 120, type(self).__name__, 0.05)


class Libtorrent(Client):
    """libtorrent-rasterbar, which qBittorrent and Deluge are built on."""

    upload_limit: int = 0
    """Bytes a second; 0 for none. Set it before `add`."""
    download_limit: int = 0
    seed_mode: bool = False
    """Believe that the data is whole without a check."""
    pex: bool = False
    """Tell peers of others, and heed what they tell; set it before `add`."""
    host: str = HOST
    """Where it is; set it before it starts."""
    tuned: bool = True
    """With buffers and threads for the fastest loopback, or with its own defaults; set it before it starts."""
    sessions: int = 1
    """So many peers in the one process, each with the same torrents and with its data in a folder of its own."""

    def launch(self) -> None:
        script = Path(__file__).with_name("libtorrent_process.py")
        ports = [self.port, *([0] * (self.sessions - 1))]
        mode = "tuned" if self.tuned else "default"
        self.spawn(
            sys.executable, script, self.host, mode, *ports, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.ports: list[int] = self._read()

    def call(self, name: str, **words: object) -> Any:
        self.must_live()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, words]).encode() + b"\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text(errors="replace")
        return json.loads(line)

    def add(self, torrent: Path, folder: Path) -> None:
        self.call(
            "add",
            torrent=str(torrent),
            folder=str(folder),
            seed_mode=self.seed_mode,
            upload_limit=self.upload_limit,
            download_limit=self.download_limit,
            pex=self.pex,
        )

    def add_magnet(self, uri: str, folder: Path) -> None:
        """To each session: it finds out the rest."""
        self.call("add_magnet", uri=uri, folder=str(folder))

    def dht(self, *nodes: str) -> None:
        """Each session gets a DHT node on the port of its peers; those (host:port) introduce them."""
        self.call("dht", nodes=nodes)

    def wait_names(self, info_hash: str) -> None:
        """Until its DHT node (of the first session) names somebody for that torrent: who asks later finds somebody."""
        wanted = {b"id": bytes(20), b"info_hash": bytes.fromhex(info_hash)}
        question = encode({b"t": b"t", b"y": b"q", b"q": b"get_peers", b"a": wanted})

        def names() -> bool:
            self.must_live()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(1)
                asking.sendto(question, (self.host, self.port))
                with contextlib.suppress(OSError):
                    return b"6:values" in asking.recv(2048)
            return False

        wait_until(names, 120, "an announce in the DHT", 0.1)

    def lsd(self) -> None:
        """Each session looks for neighbours."""
        self.call("lsd")

    def connect(self, *ports: int) -> None:
        # we listen on one address of each family; a client may have another of them
        self.call("connect", host=self.host if ":" in self.host else HOST, ports=ports)

    def connect_all(self) -> None:
        """Each of its sessions with each other."""
        self.call("connect_all")

    def wait_for(self, state: str, timeout_s: float = 300) -> float:
        """Until all its torrents are `checked` or `finished`: that time, by the monotonic clock."""
        at = self.call("wait", state=state, timeout_s=timeout_s)
        assert at, f"libtorrent: not {state} within {timeout_s:g} s: {self.status()}"
        return float(at)

    def status(self) -> dict[str, Any]:
        return self.call("status")

    def shares(self) -> list[tuple[int, int]]:
        """Bytes of payload that each of its torrents sent and got."""
        return [(up, down) for up, down in self.call("shares")]

    def whole(self) -> bool:
        status = self.status()
        assert not status["errors"], status
        return status["whole"]

    def stop(self) -> int:
        if self.alive:
            assert self.process is not None
            assert self.process.stdin is not None
            self.process.stdin.close()  # it ends, and says `stopped` to its tracker
            if not self._reap(60):
                self.kill()
        return self._close()


class Transmission(Client):
    """transmission-daemon. It takes its first choke round after 10 s, so it is never fast on small data."""

    dials_loopback = False
    makes_empty_files = False

    def __init__(self, work: Path) -> None:
        need("transmission-daemon")
        super().__init__(work)
        self.rpc = free_port()
        self.terms: dict[str, object] = {}
        """Settings of its own; set them before it starts."""
        self._token = ""

    def launch(self) -> None:
        terms = {
            "bind-address-ipv4": HOST,
            "bind-address-ipv6": "::1",
            "peer-port": self.port,
            "rpc-port": self.rpc,
            "rpc-bind-address": HOST,
            "rpc-whitelist-enabled": False,
            "rpc-authentication-required": False,
            "download-dir": str(self.work),
            "encryption": 0,
            "utp-enabled": False,
            "dht-enabled": False,
            "lpd-enabled": False,
            "pex-enabled": False,
            "port-forwarding-enabled": False,
            "preallocation": 0,
            "download-queue-enabled": False,
            "seed-queue-enabled": False,
            "scrape-paused-torrents-enabled": False,
            **self.terms,
        }
        (self.work / "settings.json").write_text(json.dumps(terms))
        self.spawn("transmission-daemon", "--foreground", "--config-dir", self.work)
        self._up(lambda: self.call("session-get"))

    def call(self, method: str, **arguments: object) -> Any:
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        for _ in range(2):
            request = urllib.request.Request(
                f"http://{HOST}:{self.rpc}/transmission/rpc", body, {"X-Transmission-Session-Id": self._token}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    told = json.loads(reply.read())
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 409:  # "and this is your session id": once for each of its lives
                        raise
                    self._token = error.headers["X-Transmission-Session-Id"]
                continue
            assert told["result"] == "success", told
            return told["arguments"]
        raise AssertionError("transmission-daemon keeps asking for another session id")

    def add(self, torrent: Path, folder: Path) -> None:
        self.call("torrent-add", filename=str(torrent), **{"download-dir": str(folder)})

    def whole(self) -> bool:
        fields = ["status", "percentDone", "error", "errorString"]
        told = self.call("torrent-get", fields=fields)["torrents"]
        assert not [one for one in told if one["error"] == 3], told  # 3: a local error, such as a full disk
        return bool(told) and all(one["status"] == 6 and one["percentDone"] == 1 for one in told)


class Aria2(Client):
    """aria2c."""

    def __init__(self, work: Path) -> None:
        need("aria2c")
        super().__init__(work)
        self.rpc = free_port()

    def launch(self) -> None:
        self.spawn(
            "aria2c",
            "--no-conf",
            "--quiet",
            "--enable-rpc",
            "--rpc-listen-all=false",
            f"--rpc-listen-port={self.rpc}",
            f"--listen-port={self.port}",
            f"--interface={HOST}",
            "--disable-ipv6",
            "--enable-dht=false",
            "--enable-dht6=false",
            "--bt-enable-lpd=false",
            "--enable-peer-exchange=false",
            "--bt-require-crypto=false",
            "--bt-min-crypto-level=plain",
            "--file-allocation=none",
            "--check-integrity=true",
            "--seed-ratio=0.0",
            "--allow-overwrite=true",
        )
        self._up(lambda: self.call("getVersion"))

    def call(self, method: str, *parameters: object) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": f"aria2.{method}", "params": parameters}
        request = urllib.request.Request(f"http://{HOST}:{self.rpc}/jsonrpc", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())["result"]

    def add(self, torrent: Path, folder: Path) -> None:
        blob = base64.b64encode(torrent.read_bytes()).decode()
        self.call("addTorrent", blob, [], {"dir": str(folder)})

    def whole(self) -> bool:
        told = self.call("tellActive", ["seeder", "verifiedLength", "verifyIntegrityPending"])
        return bool(told) and all(one == {"seeder": "true"} for one in told)


CLIENTS: dict[str, type[Client]] = {
    "libtorrent": Libtorrent,
    "transmission": Transmission,
    "aria2": Aria2,
}
