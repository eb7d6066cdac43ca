"""HTTPS, certificates of clients, and their renewal while the daemon runs."""

import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trustme

from bittern.control.tls import Tls
from bittern.daemon import controlling
from bittern.daemon.config import Config, ConfigError, load_config
from tests.fakes.controlled import controlled, web_config
from tests.fakes.need import need

PATIENCE_S = 60


class Files:
    """An authority's certificate for this machine, as files."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.clients = folder / "web.pem", folder / "web.key", folder / "ca.pem"
        self.clients_ca = trustme.CA()
        self.clients_ca.cert_pem.write_to_path(self.clients)
        self.renew()

    def renew(self) -> None:
        self.ca = trustme.CA()
        issued = self.ca.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(self.key)
        self.key.chmod(0o640)
        issued.cert_chain_pems[0].write_to_path(self.certificate)

    def trusting(self, *, known: bool = False) -> ssl.SSLContext:
        """A client's context; one who is `known` has a certificate himself."""
        made = ssl.create_default_context()
        self.ca.configure_trust(made)
        if known:
            self.clients_ca.issue_cert("me@example.org").configure_cert(made)
        return made

    def of(self, before: Config, **more: Any) -> Config:
        web = msgspec.structs.replace(
            before.web, tls_certificate=str(self.certificate), tls_key=str(self.key), **more
        )
        return msgspec.structs.replace(before, web=web)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return web_config(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def status(config: Config, context: ssl.SSLContext) -> int:
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=PATIENCE_S) as client:
        url = f"https://127.0.0.1:{config.web.port}/api/v1/session"
        return (await client.get(url)).status_code


async def until_served(config: Config, context: ssl.SSLContext) -> None:
    """The sockets are opened in a thread; certificates are read in one."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                assert await status(config, context) == 200
            except httpx.ConnectError:
                await trio.sleep(0.01)
            else:
                return


async def test_https_and_a_certificate_that_is_renewed(
    config: Config,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(controlling.log, "warning", lambda event, **_: told.append(event), raising=False)
    made = files.of(config)
    async with controlled(tmp_path, made) as (_, control):
        first = files.trusting()
        await until_served(made, first)
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as plain:
            with pytest.raises(httpx.HTTPError):
                await plain.get(f"http://127.0.0.1:{made.web.port}/healthz")
        # what cannot be used changes nothing
        files.key.chmod(0o644)
        control.apply(made)
        with trio.fail_after(PATIENCE_S):
            while "web.certificate_kept" not in told:
                await trio.sleep(0.01)
        assert await status(made, first) == 200
        files.renew()
        control.apply(made)
        await until_served(made, files.trusting())
        with pytest.raises(httpx.ConnectError):
            await status(made, first)


async def test_only_clients_with_a_certificate_are_let_in(
    config: Config,
    files: Files,
    tmp_path: Path,
) -> None:
    made = files.of(config, tls_client_ca=str(files.clients))
    async with controlled(tmp_path, made) as (engine, _):
        await until_served(made, files.trusting(known=True))
        stranger = files.trusting()
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            await status(made, stranger)
        trustme.CA().issue_cert("me@example.org").configure_cert(stranger)
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            await status(made, stranger)
        assert await status(made, files.trusting(known=True)) == 200
        assert not engine.supervisor.crashes


async def test_a_handshake_that_never_ends_is_ended(
    config: Config,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bittern.control.server.HANDSHAKE_S", 0.2)
    made = files.of(config)
    async with controlled(tmp_path, made) as (engine, _):
        await until_served(made, files.trusting())
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream("127.0.0.1", made.web.port) as slow:
                await slow.send_all(b"\x16\x03\x01")
                assert await slow.receive_some() == b""
        assert await status(made, files.trusting()) == 200
        assert not engine.supervisor.crashes


def test_certificates_that_openssl_makes(tmp_path: Path) -> None:
    need("openssl")
    certificate, key = tmp_path / "web.pem", tmp_path / "web.key"

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", 1)
    made += ("-subj", "/CN=localhost", "-out", certificate, "-keyout", key)
    openssl(*made, "-nodes")
    Tls(certificate, key, certificate)
    key.chmod(0o644)
    with pytest.raises(OSError, match=r"web.key may be read or written by others \(mode 0644\): chmod 640 "):
        Tls(certificate, key, None)
    openssl(*made, "-passout", "pass:secret")
    key.chmod(0o600)
    with pytest.raises(OSError, match="has a passphrase, which nobody is there to type"):
        Tls(certificate, key, None)
    openssl("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", key)
    with pytest.raises(OSError, match=r"web.key is not the key of .*web.pem"):
        Tls(certificate, key, None)


@pytest.mark.parametrize("broken", ["certificate", "key", "clients"])
@pytest.mark.parametrize("how", ["gone", "text", "fifo"])
def test_files_that_are_none_cost_a_line(broken: str, how: str, files: Files) -> None:
    path = getattr(files, broken)
    path.unlink()
    if how == "fifo":
        subprocess.run(["mkfifo", "-m", "600", path], check=True)
    elif how == "text":
        path.write_text("nothing of the kind\n")
        path.chmod(0o600)
    with pytest.raises(OSError, match=path.name) as found:
        Tls(files.certificate, files.key, files.clients)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ('listen = ["0.0.0.0"]', "is reached by others: write web.password_file"),
        (
            'listen = ["0.0.0.0"]\ntls_certificate = "/c.pem"\ntls_key = "/c.key"',
            "or web.tls_client_ca, or listen",
        ),
        ('tls_certificate = "/c.pem"', "web.tls_certificate is of no use alone: write web.tls_key too"),
        ('tls_key = "/c.key"', "write web.tls_certificate too"),
        ('tls_client_ca = "/ca.pem"', "write web.tls_certificate too"),
    ],
)
def test_who_is_let_in_from_elsewhere(said: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "bittern.toml"
    path.write_text(f"[web]\n{said}\n")
    with pytest.raises(ConfigError) as found:
        load_config(path)
    assert fault in " ".join(found.value.faults).replace(": is of", " is of")
    whole = 'listen = ["0.0.0.0"]\ntls_certificate = "/c.pem"\ntls_key = "/c.key"\ntls_client_ca = "/ca.pem"'
    path.write_text(f"[web]\n{whole}\n")
    assert load_config(path).web.tls_client_ca == "/ca.pem"
