"""`bittern passwd`."""

import base64
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from bittern.cli.commands import bittern
from bittern.control.access import basic_password, verify_password


def write(path: Path, told: bytes) -> int:
    return CliRunner().invoke(bittern, ["passwd", "--stdin", str(path)], input=told).exit_code


def test_a_password_is_written_for_its_group(tmp_path: Path) -> None:
    path = tmp_path / "web.password"
    assert write(path, "Füße 9\n".encode()) == 0
    assert verify_password("Füße 9", path.read_text().strip())
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    assert [one.name for one in tmp_path.iterdir()] == ["web.password"]


@pytest.mark.parametrize("told", [b"", b"\n", b"a\tb\n", b"x" * 1025, b"\xff\xfe\n"])
def test_what_nobody_could_log_in_with_is_refused(told: bytes, tmp_path: Path) -> None:
    assert write(tmp_path / "web.password", told) in {2, 64}
    assert not list(tmp_path.iterdir())


def test_the_longest_one_is_let_in() -> None:
    password = "x" * 1024
    header = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
    assert basic_password(header) == password
