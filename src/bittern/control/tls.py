"""TLS for the web server, and certificates of its clients. The standard library's `ssl`; keys are never asked for."""

import ssl
import stat
from pathlib import Path
from typing import Final, NoReturn

NOBODY_ELSE: Final = 0o037
"""What of a key's mode must not be: others may not touch it, and its group may only read it."""

PROTOCOLS: Final = ("http/1.1",)


class Tls:
    """What connections begin with. Its files can be read again while it is in use: connections that are open stay as
    they are.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Reads them, so for a thread; `OSError` says in one line what is wrong."""
        self._files = (certificate, key, client_ca)
        self.context = _context(*self._files)

    def renew(self) -> None:
        """As at first; when it fails what was in force stays so."""
        self.context = _context(*self._files)


def _context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    for file in filter(None, (certificate, key, client_ca)):
        # of a FIFO nothing may ever come
        if not stat.S_ISREG(file.stat().st_mode):
            raise OSError(f"{file} is no regular file")
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & NOBODY_ELSE:
        raise OSError(f"{key} may be read or written by others (mode {mode:04o}): chmod 640 {key}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(PROTOCOLS)

    def no_password() -> NoReturn:
        raise OSError(f"{key} has a passphrase, which nobody is there to type: write it without one")

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as error:
        raise OSError(_fault(error, certificate, key)) from error
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise OSError(f"{client_ca} has no certificate (PEM) in it") from error
    return context


def _fault(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key} is not the key of {certificate}"
    if error.reason in {"EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"}:
        return (
            f"{certificate} is too weak for today's clients: make one with a longer key, or a newer signature"
        )
    return f"{certificate} is no certificate, or {key} no key for it (both PEM): {error.reason or error}"
