"""What a session can be told besides its folders, and what of that cannot be."""

import ipaddress
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypedDict

from bittern.errors import OptionError
from bittern.policy.limits import RATE_MOST

PORT_MOST: Final = 65_535
COUNT_MOST: Final = 65_535
OPEN_FILES_LEAST: Final = 8
PIECE_MEMORY_LEAST: Final = 4 * 1024 * 1024
BYTES_MOST: Final = 1 << 62


class Options(TypedDict, total=False):
    """What a session can be told besides its folders; rates in bytes per second, None for no limit.

    `listen` are numeric addresses. `port` 0 is a free one, and the default; `PortTaken` when another one is not free.
    `dial_scope` "this-host" keeps everything on this machine. `dht_bootstrap` are `host:port` of nodes that introduce
    us. `reserve_bytes` stay free on each file system: downloads without room wait.
    """

    listen: tuple[str, ...]
    port: int
    dial_scope: Literal["any", "this-host"]
    dht: bool
    dht_bootstrap: tuple[str, ...]
    lsd: bool
    pex: bool
    max_peers: int
    max_peers_per_torrent: int
    download_rate: float | None
    upload_rate: float | None
    upload_slots: int | None
    max_downloads: int | None
    max_seeds: int | None
    open_files: int
    piece_memory: int
    preallocate: bool
    reserve_bytes: int


def require_fit(options: Options) -> None:
    """`OptionError` names the first that cannot be."""
    told: Mapping[str, Any] = dict(options)
    for name, value in told.items():
        fits, wanted = _RULES.get(name, (None, ""))
        if fits is None:
            raise OptionError(f"there is no option {name!r}: there are {', '.join(_RULES)}")
        if not fits(value):
            raise OptionError(f"{name} is {wanted}")


def absolute(name: str, path: str | os.PathLike[str]) -> str:
    """As it is written: links stay links. `OptionError` names the option when no folder can be called so."""
    told: object = os.fspath(path)
    try:
        if isinstance(told, str) and b"\0" not in os.fsencode(told):
            return os.path.abspath(told)
    except UnicodeEncodeError:
        # a lone surrogate that stands for no byte
        pass
    raise OptionError(f"{name} is the path of a folder, a text without NUL: {told!r}")


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    # a flag is no number, though Python takes it for one
    return lambda value: type(value) is int and least <= value <= most


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_rate(value: Any) -> bool:
    # NaN is not either
    return type(value) in {int, float} and 0 <= value <= RATE_MOST


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are(fits: Callable[[str], bool], least: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, tuple | list)
        and len(value) >= least
        and all(isinstance(one, str) and fits(one) for one in value)
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_node(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= PORT_MOST


_FLAG: Final = (_is_flag, "True or False")
_COUNT: Final = (_whole(1, COUNT_MOST), f"a whole number from 1 to {COUNT_MOST}")
_AT_MOST: Final = (_or_none(_whole(1, COUNT_MOST)), f"a whole number from 1 to {COUNT_MOST}, or None")
_RATE: Final = (_or_none(_is_rate), "a number of bytes a second, or None")

_RULES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "listen": (_are(_is_address, 1), "a tuple of numeric addresses, one at least"),
    "port": (_whole(0, PORT_MOST), f"a number from 0 to {PORT_MOST}"),
    "dial_scope": (lambda value: value in ("any", "this-host"), '"any" or "this-host"'),
    "dht": _FLAG,
    "dht_bootstrap": (_are(_is_node, 0), 'a tuple of nodes such as "router.example.org:6881"'),
    "lsd": _FLAG,
    "pex": _FLAG,
    "max_peers": _COUNT,
    "max_peers_per_torrent": _COUNT,
    "download_rate": _RATE,
    "upload_rate": _RATE,
    "upload_slots": _AT_MOST,
    "max_downloads": _AT_MOST,
    "max_seeds": _AT_MOST,
    "open_files": (
        _whole(OPEN_FILES_LEAST, COUNT_MOST),
        f"a whole number from {OPEN_FILES_LEAST} to {COUNT_MOST}",
    ),
    "piece_memory": (
        _whole(PIECE_MEMORY_LEAST, BYTES_MOST),
        f"a number of bytes, {PIECE_MEMORY_LEAST} at least",
    ),
    "preallocate": _FLAG,
    "reserve_bytes": (_whole(0, BYTES_MOST), "a number of bytes"),
}
