"""The installed unit under a real systemd, on a host that is thrown away afterwards."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bittern.proto.bencode import encode
from tests.fakes.need import need

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def test_the_unit_is_hardened() -> None:
    need("systemd-analyze")
    unit = ROOT / "systemd/bittern.service"
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    exposure = float(told.split("exposure level for bittern.service: ")[1].split()[0])
    assert exposure <= 2.0


@pytest.mark.systemd
def test_a_day_of_the_installed_unit(tmp_path: Path) -> None:
    need("unshare", "nsenter", "ip", "/lib/systemd/systemd", root=True)
    # All that the host needs lies in the one folder that it shares with us.
    keep = tmp_path / "keep"
    for part in ("src", "etc", "systemd"):
        shutil.copytree(ROOT / part, keep / "tree" / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, keep / "tree")
    # It has no network: what `make install` would fetch is fetched before it boots.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = project["build-system"]["requires"] + project["project"]["dependencies"]
    fetch = [sys.executable, "-m", "pip", "wheel", "--quiet", "-w", str(keep / "wheels"), *needed]
    subprocess.run(fetch, check=True)
    blob = os.urandom(300_000)
    (keep / "payload.bin").write_bytes(blob)
    hashes = b"".join(hashlib.sha1(blob[at : at + 65536]).digest() for at in range(0, len(blob), 65536))
    info = {b"name": b"payload.bin", b"length": len(blob), b"piece length": 65536, b"pieces": hashes}
    (keep / "one.torrent").write_bytes(encode({b"info": info}))
    shutil.copy(HERE / "check-unit", keep)
    ran = subprocess.run(
        [str(HERE / "throwaway-host"), "/run/keep/check-unit"],
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "KEEP": str(keep)},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    steps = [line.split()[1] for line in ran.stdout.splitlines() if line.startswith("CHECK ")]
    assert steps == [
        "installed",
        "ready",
        "hook",
        "rejected",
        "reloaded",
        "secret",
        "restarted",
        "unrefused",
        "second",
        "exposure",
        "stopped",
        "uninstalled",
    ]
    lines = [json.loads(line) for line in (keep / "journal.json").read_text().splitlines()]
    ours = [line for line in lines if "torrent.completed" in str(line.get("MESSAGE"))]
    assert ours
    assert all(line["PRIORITY"] == "6" for line in ours)
    refusals = [line for line in lines if "config.rejected" in str(line.get("MESSAGE"))]
    assert refusals
    assert all(line["PRIORITY"] == "3" for line in refusals)
