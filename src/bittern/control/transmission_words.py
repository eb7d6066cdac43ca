"""What the calls of Transmission's RPC share: their errors, and how what clients send is read."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

Arguments: TypeAlias = dict[str, Any]
Method: TypeAlias = Callable[[Arguments], Awaitable[Arguments]]

NAME_CHARACTERS_AT_MOST: Final = 100
KB: Final = 1000
"""Of Transmission's speeds: it is what it tells us of in `units`."""

NO_SUCH_METHOD, INVALID_PARAMS = -32601, -32602
FAILED: Final = 4
"""For all that went wrong otherwise."""


class RpcError(Exception):
    """Told to the client."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def refuse(sentence: str) -> Method:
    """A method that says why not."""

    async def refused(arguments: Arguments) -> Arguments:
        raise RpcError(sentence)

    return refused


def refuse_unknown(arguments: Iterable[str], known: set[str]) -> None:
    """A name that is not `known` is an error, not ignored."""
    for key in arguments:
        if key not in known:
            raise RpcError(f"bittern does not take {key}")


def flag(name: str, value: object) -> bool:
    """True or false; older clients say 1 and 0."""
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise RpcError(f"{name} is true or false", INVALID_PARAMS)
    return bool(value)


def is_name(value: object) -> bool:
    """May it be the name of a method, an argument or a field?"""
    return isinstance(value, str) and len(value) <= NAME_CHARACTERS_AT_MOST
