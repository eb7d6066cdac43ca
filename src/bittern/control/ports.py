"""What control needs of the daemon above it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Daemon(Protocol):
    """Filled by `daemon/app.py`."""

    @property
    def version(self) -> str:
        """Ours."""

    @property
    def port(self) -> int:
        """Where peers reach us, over TCP."""

    @property
    def state_folder(self) -> str:
        """Where our records lie: tells one daemon of a machine from another."""

    @property
    def data_folders(self) -> tuple[str, ...]:
        """Where torrents' data may be put, the usual folder first."""

    @property
    def incomplete_folder(self) -> str:
        """Where data lies until it is whole; "" = where it will stay."""

    def limits(self) -> Mapping[str, Any]:
        """What may be set for all torrents while it runs, and what holds of it. Rates are bytes a second."""

    def overrides(self) -> Mapping[str, Any]:
        """Those of them that were set, and are not what the configuration says."""

    async def set_limits(self, changes: Mapping[str, Any]) -> None:
        """Some of them anew, None: as the configuration says. They hold at once, and are durable when it returns.
        `StorageError`.
        """

    async def deliveries(self, state: str | None, at_most: int) -> "Deliveries":
        """The newest ones of calls to hooks: all, or those that are `pending`, `done` or `dead`. `StorageError`."""

    async def replay(self, delivery_id: str) -> bool | None:
        """Tells one that is over once more; False: it is not over; None: there is none of that id. `StorageError`."""


class Deliveries(NamedTuple):
    """What became of calls to hooks."""

    counts: Mapping[str, int]
    """Of all of them, by state."""
    newest: Sequence[dict[str, Any]]
    """The newest first; in each `hooks` says of every hook what it is, how often it was tried, and what it printed."""
