"""Programs that were written for Transmission drive bittern."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import transmission_rpc

from tests.fakes.bittern_process import Bittern
from tests.fakes.need import need
from tests.fakes.payloads import Payload
from tests.fakes.processes import free_port, wait_until


def test_transmission_remote(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    need("transmission-remote")
    payload = payload_of("remote", [100_000, 50_000], 16384)
    torrent = payload.torrent(tmp_path, "http://127.0.0.1:9/announce")
    port = free_port()
    bittern = Bittern(tmp_path, web={"enabled": True, "port": port, "access": "full"})

    def remote(*words: object) -> str:
        done = subprocess.run(
            ["transmission-remote", f"127.0.0.1:{port}", *map(str, words)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with bittern:
        bittern.wait("web.ready")
        assert "success" in remote("-a", torrent)
        bittern.wait("torrent.checked")
        listed = remote("-l")
        assert payload.name in listed
        assert "None" in listed  # of its have
        assert payload.info_hash in remote("-t", 1, "-i")
        assert payload.file_paths()[0] in remote("-t", 1, "-f")
        assert "success" in remote("-t", 1, "-G", 1)
        assert "success" in remote("-t", 1, "-ph", 0)
        files = remote("-t", 1, "-f").splitlines()
        assert files[2].split()[2:4] == ["High", "Yes"]
        assert files[3].split()[2:4] == ["Normal", "No"]
        assert "success" in remote("-t", 1, "-g", "all")
        assert "127.0.0.1" in remote("-t", 1, "-it")
        remote("-t", 1, "-ip")
        assert "success" in remote("-t", 1, "-S")
        assert "Stopped" in remote("-l")
        assert "success" in remote("-t", 1, "-s")
        assert "success" in remote("-t", 1, "-v")
        assert "success" in remote("-t", 1, "--reannounce")
        assert "success" in remote("-d", 300)
        assert "Download speed limit: 300" in remote("-si")
        assert "success" in remote("-D")
        assert "Started" in remote("-st")
        assert "success" in remote("-t", 1, "-r")
        bittern.wait("torrent.removed")
        assert payload.name not in remote("-l")


def test_the_library_transmission_rpc(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("library", 200_000, 65536)
    blob = payload.blob()
    port = free_port()
    with Bittern(tmp_path, web={"enabled": True, "port": port, "access": "full"}) as bittern:
        bittern.wait("web.ready")
        client = transmission_rpc.Client(host="127.0.0.1", port=port, timeout=120)
        added = client.add_torrent(blob, labels=["tests"])
        assert added.hash_string == payload.info_hash
        bittern.wait("torrent.checked")
        (one,) = client.get_torrents()
        assert (one.name, one.status, one.progress, one.labels) == (
            payload.name,
            "downloading",
            0.0,
            ["tests"],
        )
        assert [file.name for file in one.get_files()] == payload.file_paths()
        client.stop_torrent(one.id)
        assert client.get_torrent(one.id).status == "stopped"
        client.start_torrent(one.id)
        client.verify_torrent(one.id)
        client.reannounce_torrent(one.id)
        client.set_session(speed_limit_up=100, speed_limit_up_enabled=True)
        assert client.get_session().speed_limit_up == 100
        assert client.session_stats().torrent_count == 1
        assert client.free_space(str(bittern.downloads)) > 0
        client.queue_top(one.id)
        client.remove_torrent(one.id)
        wait_until(lambda: client.get_torrents() == [], 60, "the removal")
