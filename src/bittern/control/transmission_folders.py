"""Which folders a client of Transmission's RPC may name."""

from collections.abc import Callable
from typing import TypeVar

from bittern.control.folders import Folders
from bittern.control.ports import Daemon
from bittern.control.transmission_words import INVALID_PARAMS, RpcError

T = TypeVar("T")


class RpcFolders:
    """Those of the configuration, and what lies in them."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._folders = Folders()

    async def wanted(self, wanted: object) -> str:
        """The folder meant; the usual one for none."""
        allowed = self._daemon.data_folders
        if wanted is None or wanted == "":
            return allowed[0]
        folder = await self._folders.within(wanted, allowed) if isinstance(wanted, str) else None
        if folder is None:
            raise RpcError(f"data is put into {' or '.join(allowed)} only", INVALID_PARAMS)
        return folder

    async def ask(self, question: Callable[[], T]) -> T:
        """In a thread: a dead mount answers late or never."""
        return await self._folders.ask(question)
