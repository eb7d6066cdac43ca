"""Schemathesis, which makes requests of the native API's description, right ones and wrong ones, finds nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.payloads import Payload
from tests.fakes.processes import free_port

pytestmark = pytest.mark.proof

SCAN = Path(sys.executable).with_name("st")
SEED = "20260101"

ALWAYS = """
[generation]
database = "none"
deterministic = true
"""

JUDGED_DEEPER = """
[[operations]]
include-operation-id = "{operation}"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 403, 404, 409]
"""
"""What no schema can say of a request: that there is such a file, tracker or folder, or that bytes are a torrent."""

DEEPER = (
    "post_api_v1_torrents",
    "patch_api_v1_torrents_torrent_files",
    "patch_api_v1_torrents_torrent_trackers",
    "put_api_v1_torrents_torrent_labels",
    "get_api_v1_torrents",
    # a name that a file can have; and whole numbers have no point here, though 2.0 is one to a schema
    "post_api_v1_torrents_torrent_rename",
    "patch_api_v1_torrents_torrent_limits",
    "patch_api_v1_limits",
    "post_api_v1_queue",
)


def scan(work: Path, port: int, told: str, *options: str) -> str:
    """What it says; AssertionError when it finds something."""
    config = work / "schemathesis.toml"
    config.write_text(told + "".join(JUDGED_DEEPER.format(operation=one) for one in DEEPER))
    argv = [str(SCAN), "--config-file", str(config), "run", f"http://127.0.0.1:{port}/api/v1/openapi.json"]
    argv += ["--phases", "examples,coverage,fuzzing", "--seed", SEED, "--continue-on-failure", "--no-color"]
    # they have no end: `test_hostile_clients.py` is about them
    argv += ["--exclude-path-regex", "/(events|updates)$", "--request-timeout", "180", *options]
    environ = {name: value for name, value in os.environ.items() if name not in {"http_proxy", "HTTP_PROXY"}}
    done = subprocess.run(
        argv, cwd=work, capture_output=True, text=True, timeout=1800, env=environ | {"NO_PROXY": "127.0.0.1"}
    )
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize(
    ("access", "meant", "examples"), [("full", True, "40"), ("full", False, "20"), ("read-only", True, "20")]
)
def test_a_scan_finds_nothing(
    access: str, meant: bool, examples: str, tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    payload = payload_of("scanned", 200_000, 65536)
    port = free_port()
    bittern = Bittern(tmp_path, web={"enabled": True, "port": port, "access": access})
    with bittern:
        bittern.wait("web.ready")
        payload.torrent(bittern.drop)
        bittern.wait("torrent.checked")
        told, options = ALWAYS, ["-n", examples]
        if meant:
            told += f'\n[parameters]\n"path.torrent" = "{payload.info_hash}"\n'
            # removed once, there would be nothing to ask for any more
            options += ["--exclude-method", "DELETE"] if access == "full" else []
        said = scan(tmp_path, port, told, *options)
        assert "Missing test data" not in said or not meant
        assert not bittern.events("bug")
