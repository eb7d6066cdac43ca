"""Who may do what over TCP, where anybody of this machine, and any page in somebody's browser, can knock.

Decided from the request's head alone: the Host it names (DNS rebinding), where it comes from (cross-site requests), the
password. Whoever may only look is told so by `MAY_STEER` in the request's scope, which handlers ask.
"""

import base64
import binascii
import hashlib
import hmac
import http
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Access: TypeAlias = Literal["read-only", "full"]

MAY_STEER: Final = "bittern.may_steer"

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SCRYPT_N: Final = 2**14
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
"""About 50 ms and 16 MiB for each guess."""

PASSWORD_BYTES_AT_MOST: Final = 1024
FAILURES_AT_MOST: Final = 10
FAILURE_FADES_S: Final = 60.0
HOSTS_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class Denied:
    """The answer to whoever may not."""

    status: int
    code: str
    message: str
    headers: tuple[tuple[str, str], ...] = ()


def hash_password(password: str, salt: bytes | None = None) -> str:
    """What is kept in the password file."""
    salt = os.urandom(16) if salt is None else salt
    found = hashlib.scrypt(password.encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    return f"scrypt:{salt.hex()}:{found.hex()}"


def is_password_hash(text: str) -> bool:
    """Does that look like what `hash_password` gives?"""
    kind, _, rest = text.partition(":")
    salt, _, found = rest.partition(":")
    try:
        return kind == "scrypt" and len(bytes.fromhex(salt)) == 16 and len(bytes.fromhex(found)) == 64
    except ValueError:
        return False


def verify_password(password: str, kept: str) -> bool:
    """Slow on purpose: for a thread."""
    _, salt, _ = kept.split(":")
    return hmac.compare_digest(hash_password(password, bytes.fromhex(salt)), kept)


def own_host(header: str, names: tuple[str, ...]) -> bool:
    """Is that a Host by which we are meant to be reached: a number, localhost, or a name of the configuration? What
    else leads here is a page's name that was bent to this machine.
    """
    name = header.rpartition("]")[0][1:] if header.startswith("[") else header.partition(":")[0]
    name = name.rstrip(".").lower()
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def foreign_origin(headers: Mapping[str, str]) -> bool:
    """Does the request come from a page that is not ours?"""
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2] != headers.get("host", "")
    return headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}


def foreign_look(headers: Mapping[str, str]) -> bool:
    """Does a page that is not ours want something shown? It cannot read the answer, but it can make us work for it
    again and again. Whoever follows a link to us looks himself.
    """
    if headers.get("sec-fetch-site", "none") in {"same-origin", "none"}:
        return False
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) != ("navigate", "document")


def household(host: str) -> str:
    """All addresses that one guesser has: this machine's are one, and so is a network of IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            prefix = int(address) >> 64 << 64
            return "loopback" if address.is_loopback else str(ipaddress.IPv6Address(prefix))
        address = address.ipv4_mapped
    return "loopback" if address.is_loopback else str(address)


class Guessing:
    """Counts wrong passwords of each host, so that nobody tries many. Bounded, and forgetful."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def barred(self, host: str, now: float) -> bool:
        """Has it failed too often lately?"""
        count, at = self._failures.get(host, (0, 0.0))
        return count >= FAILURES_AT_MOST and now - at < FAILURE_FADES_S

    def failed(self, host: str, now: float) -> None:
        """One more."""
        count, at = self._failures.pop(host, (0, now))
        self._failures[host] = (1 if now - at >= FAILURE_FADES_S else count + 1, now)
        while len(self._failures) > HOSTS_REMEMBERED:
            del self._failures[next(iter(self._failures))]

    def passed(self, host: str) -> None:
        """It knows the password."""
        self._failures.pop(host, None)


def basic_password(header: str) -> str | None:
    """The password of an `Authorization: Basic`; the user's name is nobody's matter."""
    kind, _, rest = header.partition(" ")
    if kind.lower() != "basic" or len(rest) > PASSWORD_BYTES_AT_MOST * 2:
        return None
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


def judge_head(method: str, headers: Mapping[str, str], names: tuple[str, ...]) -> Denied | None:
    """What can be said before a password is looked at. `headers` have lower-case names."""
    host = headers.get("host", "")
    if not own_host(host, names):
        message = "this name is not one of ours: write it into web.hosts, or use the address"
        return Denied(http.HTTPStatus.MISDIRECTED_REQUEST, "foreign-host", message)
    if method not in SAFE_METHODS and foreign_origin(headers):
        message = "a page of another site may not ask for that"
        return Denied(http.HTTPStatus.FORBIDDEN, "foreign-origin", message)
    if method in SAFE_METHODS and foreign_look(headers):
        message = "a page of another site may not look at that"
        return Denied(http.HTTPStatus.FORBIDDEN, "foreign-origin", message)
    return None


UNAUTHORIZED: Final = Denied(
    http.HTTPStatus.UNAUTHORIZED,
    "password",
    "a password is needed",
    (("WWW-Authenticate", 'Basic realm="bittern", charset="UTF-8"'),),
)
THROTTLED: Final = Denied(
    http.HTTPStatus.TOO_MANY_REQUESTS, "throttled", "too many wrong passwords: wait a minute"
)
READ_ONLY: Final = Denied(
    http.HTTPStatus.FORBIDDEN,
    "read-only",
    'this is for looking only: write web.access = "full" to change that',
)
