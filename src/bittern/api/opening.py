"""Opens a session, and ends it in order whatever comes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Unpack

import trio

from bittern.api.life import Life
from bittern.api.options import Options, absolute, require_fit
from bittern.api.session import Session
from bittern.engine.assembly import assembled
from bittern.engine.settings import Settings
from bittern.engine.supervision import is_bug, widest
from bittern.errors import PortTaken, SessionFailed

STATE_FOLDER: Final = ".bittern"
"""Below the download folder, unless another one is named."""

DELIVERIES_FOLDER: Final = "deliveries"
"""In every state folder that a daemon has used: its hooks have still to be told of what stands in records."""

CLOSING_S: Final = 30.0
"""For how long the end of a session may wait for a disk."""


@asynccontextmanager
async def open_session(
    downloads: str | os.PathLike[str] = ".",
    *,
    state: str | os.PathLike[str] | None = None,
    **options: Unpack[Options],
) -> AsyncIterator["Session"]:
    """A session that runs until the block is left: listening, and with all torrents of its last life.

    Data goes to `downloads` unless a torrent is told otherwise; what is remembered is kept in `state`, which is
    `downloads/.bittern` unless it is named, and which one session at a time may use. A torrent that was not stopped
    goes on by itself when the same state is opened again. Leaving ends connections, tells trackers `stopped` (for three
    seconds at most) and writes everything down; so does an error in the block, which comes out as it was raised.

    `OptionError` (a `ValueError`): an option or the name of a folder cannot be; nothing was made.
    `StateError`: the state folder is in use, cannot be written, or is a newer bittern's. `PortTaken`. `SessionFailed`:
    a bug of ours that could not be contained.
    """
    folder = absolute("downloads", downloads)
    kept = f"{folder}/{STATE_FOLDER}" if state is None else absolute("state", state)
    defaults: Options = {"port": 0}
    require_fit(options)
    settings = Settings(state=kept, downloads=folder, reserved=(kept,), **(defaults | options))
    life, block = Life(), _Block()
    try:
        async with (
            assembled(settings, life.tell, taken=_port_taken) as engine,
            trio.open_nursery() as foundation,
        ):
            await engine.lay(foundation)
            try:
                async with trio.open_nursery() as above:
                    await engine.start(above)
                    await engine.listen(above, foundation)
                    await engine.session.load(lambda _done, _of: None)
                    hooks_wait = await trio.Path(kept, DELIVERIES_FOLDER).is_dir()
                    life.begin(engine, folder, hooks_wait=hooks_wait)
                    with block:
                        yield Session(life)
                    above.cancel_scope.cancel()
            finally:
                life.end()
                engine.session.lifecycle.stop()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSING_S):
                    await engine.take_leave()
            foundation.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        ours, others = group.split(Exception)
        if ours is None or others is not None:
            raise
        fault = widest(ours)
        if is_bug(fault):
            raise SessionFailed(f"bittern had to end the session: {fault!r}") from group
        raise fault from group
    if block.error is not None:
        raise block.error


class _Block:
    """Keeps the error of a block: on its way through the nurseries it would be wrapped in groups."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        # what cancels belongs to the nurseries; Ctrl-C and `sys.exit` in a group would be a traceback
        if isinstance(error, Exception | KeyboardInterrupt | SystemExit):
            self.error = error
            return True
        return False


def _port_taken(reason: str) -> None:
    raise PortTaken(reason.partition("; trying")[0])
