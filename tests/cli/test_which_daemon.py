"""Which daemon a command reaches: that of the configuration that it is given, or none."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bittern.cli import configuration, daemon
from bittern.cli.commands import bittern
from bittern.cli.configuration import unit_environ

MAIN = "/var/lib/bittern"


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/etc/bittern of a machine on which the main daemon runs; the instance `second` never has."""
    folder = tmp_path / "etc"
    folder.mkdir()
    for name in ("bittern.toml", "second.toml", "notes.conf"):
        (folder / name).write_text("[network]\nport = 1730\n")
    for module in (configuration, daemon):
        monkeypatch.setattr(module, "DEFAULT_CONFIG", folder / "bittern.toml")

    def answer(_: daemon.Daemon, method: str, path: str, **terms: object) -> daemon.Answer:
        told = {"state_folder": MAIN, "torrents": [{"name": "of the main daemon"}]}
        return daemon.Answer(200, json.dumps(told).encode())

    monkeypatch.setattr(daemon.Daemon, "answer", answer)
    return folder


def listed(config: Path | str) -> tuple[int, str]:
    done = CliRunner().invoke(bittern, ["list", "--json", "--config", str(config)], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_an_instance_that_never_ran_is_not_the_main_daemon(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "of the main daemon" in listed(etc / "bittern.toml")[1]
    other_way = etc.parent / "link"
    other_way.symlink_to(etc)
    monkeypatch.chdir(etc)
    for name in (etc / "second.toml", etc / "../etc/second.toml", other_way / "second.toml", "second.toml"):
        assert listed(name) == (69, "")


def test_a_file_that_names_its_state_folder_goes_by_that(etc: Path) -> None:
    (etc / "second.toml").write_text(f'[paths]\nstate = "{MAIN}"\n')
    assert "of the main daemon" in listed(etc / "second.toml")[1]
    assert unit_environ(etc / "notes.conf") == unit_environ(etc.parent / "second.toml") == {}


def test_check_config_tells_no_limits_that_another_daemon_was_given(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        "bittern.daemon.overrides.Overrides.load", lambda self, _: seen.append(str(self._path)) or ""
    )
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    for name in ("second", "bittern"):
        assert CliRunner().invoke(bittern, ["check-config", str(etc / f"{name}.toml")]).exit_code == 0
    assert [path.rpartition("/")[0] for path in seen] == ["/var/lib/bittern-second", MAIN]
