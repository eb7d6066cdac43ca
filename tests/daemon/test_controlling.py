"""The sockets of control in the daemon's life: what is amiss with one costs that one alone."""

import os
import socket
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from bittern.control import server
from bittern.control.access import hash_password
from bittern.daemon import controlling
from bittern.daemon.config import Config
from bittern.daemon.controlling import Control
from tests.fakes.controlled import controlled, web_config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return web_config(tmp_path)


def listens(config: Config) -> tuple[bool, bool]:
    """On the Unix socket, and over TCP."""
    with socket.socket(socket.AF_UNIX) as one, socket.socket() as other:
        return (
            one.connect_ex(str(Path(config.paths.state) / "control.sock")) == 0,
            other.connect_ex(("127.0.0.1", config.web.port)) == 0,
        )


async def test_a_password_that_cannot_be_had_lets_nobody_in(config: Config, tmp_path: Path) -> None:
    """Least of all a FIFO, to which nobody may ever write: it would hold a thread, and with it the daemon's stop."""
    for number, make in enumerate((os.mkfifo, lambda path: path.write_text("secret"), lambda path: None)):
        path = tmp_path / f"password-{number}"
        make(path)
        web = msgspec.structs.replace(config.web, password_file=str(path))
        barred = msgspec.structs.replace(config, web=web)
        async with controlled(tmp_path / str(number), barred) as (engine, control):
            await engine.until_true(lambda: bool(control._given_up), "the refusal")
            assert listens(barred) == (True, False)
    path = tmp_path / "right"
    path.write_text(hash_password("right") + "\n")
    web = msgspec.structs.replace(config.web, password_file=str(path))
    right = msgspec.structs.replace(config, web=web)
    async with controlled(tmp_path / "last", right) as (engine, _):
        await engine.until_true(lambda: listens(right) == (True, True), "both")


@pytest.mark.parametrize("fault", ["password", "port"])
async def test_what_was_mended_is_opened_with_the_next_reload(
    config: Config, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "password"
    web = msgspec.structs.replace(config.web, password_file=str(path))
    barred = msgspec.structs.replace(config, web=web)
    with socket.socket() as other:
        if fault == "password":
            path.write_text("no hash")
        else:
            path.write_text(hash_password("right") + "\n")
            other.bind(("127.0.0.1", config.web.port))
        async with controlled(tmp_path, barred) as (engine, control):
            await engine.until_true(lambda: control._given_up == {"web"}, "the refusal")
            control.apply(barred)
            await trio.testing.wait_all_tasks_blocked()
            await engine.until_true(lambda: control._given_up == {"web"}, "another")
            path.write_text(hash_password("right") + "\n")
            other.close()
            control.apply(barred)
            await engine.until_true(lambda: listens(barred) == (True, True), "both")
            # and a further one opens nothing twice
            control.apply(barred)
            await trio.testing.wait_all_tasks_blocked()
            assert listens(barred) == (True, True)
            assert not control._given_up


async def test_a_certificate_is_read_again_also_by_a_reload_that_comes_while_it_is_read(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = trio.Event()

    class Tls:
        def renew(self) -> None:
            trio.from_thread.run_sync(renewed.set)

    def read(control: Control) -> Tls:
        trio.from_thread.run_sync(control.apply, config)
        return Tls()

    monkeypatch.setattr(Control, "_tls", read)
    async with controlled(tmp_path, config):
        with trio.fail_after(60):
            await renewed.wait()


async def test_a_bug_amid_the_opening_leaves_nothing_open(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controlling, "REOPEN_FIRST_S", 0.01)
    real, falls = server.open_tcp, [1, 2]

    def broken(*args: object) -> list[socket.socket]:
        if falls:
            raise ZeroDivisionError(falls.pop())
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(server, "open_tcp", broken)
    async with controlled(tmp_path, config, strict=False) as (engine, _):
        await engine.until_true(lambda: listens(config) == (True, True), "both")
        assert engine.supervisor.crashes == 2


def test_a_socket_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        server.open_socket(
            tmp_path / "none" / "control.sock"
        )  # and no descriptor is left: warnings are errors
