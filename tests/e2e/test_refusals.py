"""What ends a start with status 78 and one clear line, and what does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bittern.cli.commands import bittern as command_line
from tests.fakes.bittern_process import Bittern, run_command
from tests.fakes.payloads import Payload
from tests.fakes.processes import free_port


@pytest.mark.parametrize(
    ("line", "key", "remedy"),
    [
        ("[network]\nprot = 1729", "network.prot", "port"),
        ("[network]\nport = 99999", "network.port", "65535"),
        ('[limits]\npiece_memory = "lots"', "limits.piece_memory", "MiB"),
        ('[[watch]]\nfolder = "drop"\ntie = true', "watch", "keep"),
        ('[[hook]]\non = ["finished"]\ncommand = ["/bin/true"]', "hook", "completed"),
        ("[paths", "", "line"),
    ],
)
def test_a_bad_configuration(tmp_path: Path, line: str, key: str, remedy: str) -> None:
    config = tmp_path / "bittern.toml"
    config.write_text(line)
    for words in (["check-config", config], ["run", "--config", config]):
        refused = CliRunner().invoke(command_line, [str(word) for word in words])
        assert refused.exit_code == 78
        [fault] = refused.output.splitlines()
        assert fault.startswith(f"{config}: {key}")
        assert remedy in fault


def test_all_faults_at_once(tmp_path: Path) -> None:
    config = tmp_path / "bittern.toml"
    config.write_text("[network]\nport = -1\nmax_peers = 0\n[limits]\nupload_rat = 5\n")
    for command in (["check-config", config], ["run", "--config", config]):
        refused = run_command(*command)
        assert refused.returncode == 78
        assert len((refused.stderr + refused.stdout).splitlines()) == 3


def test_a_good_configuration(tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "etc/bittern.toml"
    assert run_command("check-config", config).returncode == 0


def test_no_configuration_file(tmp_path: Path) -> None:
    refused = run_command("run", "--config", tmp_path / "none.toml")
    assert refused.returncode == 78
    assert len(refused.stderr.splitlines()) == 1


def test_a_second_daemon_on_the_same_state(tmp_path: Path) -> None:
    with Bittern(tmp_path / "one") as bittern:
        refused = bittern.run_to_end()
        assert refused.returncode == 78
        assert str(bittern.state) in refused.stdout
        assert "another bittern" in refused.stdout
        assert bittern.alive
    with bittern:  # the lock goes with its process
        pass


def test_a_state_of_a_newer_version(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("newer", 100_000, 16384)
    bittern = Bittern(tmp_path / "one")
    with bittern:
        bittern.give(payload)
        bittern.wait("torrent.checked")
    [record] = (bittern.state / "resume").glob("*.toml")
    record.write_text(record.read_text().replace("format = 1", "format = 999"))
    newer = record.read_bytes()
    refused = bittern.run_to_end()
    assert refused.returncode == 78
    assert "999" in refused.stdout
    assert record.read_bytes() == newer


def test_a_state_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bittern = Bittern(tmp_path / "one", paths={"state": str(tmp_path / "file/state")})
    refused = bittern.run_to_end()
    assert refused.returncode == 78
    assert "Traceback" not in refused.stdout + refused.stderr


def test_a_taken_port_is_waited_for(tmp_path: Path) -> None:
    with Bittern(tmp_path / "one", network={"port": free_port()}) as first:
        second = Bittern(tmp_path / "two", network={"port": first.port})
        second.start("")
        second.wait("listen.failed")
        port = first.port
    second.wait("daemon.ready", port=port)
    assert second.stop() == 0


def test_a_damaged_record_costs_a_recheck(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("damaged", 200_000, 16384)
    bittern = Bittern(tmp_path / "one")
    (bittern.downloads / payload.name).write_bytes((payload.folder / payload.name).read_bytes())
    with bittern:
        bittern.give(payload)
        bittern.wait("torrent.completed")
        bittern.wait_told("completed")
    [record] = (bittern.state / "resume").glob("*.toml")
    record.write_bytes(record.read_bytes()[:-100])
    with bittern:
        bittern.wait("torrent.checked", complete=True, hashed_bytes=payload.total)
        bittern.wait("torrent.completed")  # what was found is written down by then, and not when it is told
        assert [event for event in bittern.events(this_run=True) if event["level"] == "warning"]
        assert len(bittern.events("torrent.checked", this_run=True)) == 1
    with bittern:  # one recheck: what it found is written down again
        assert bittern.events("daemon.loaded", this_run=True)[-1]["complete"] == 1
        assert not bittern.events("torrent.checked", this_run=True)
    # What was told is not told again.
    assert len({one.event_id for one in bittern.told("completed")}) == 1
