"""What control needs of the daemon above it."""

from typing import Protocol


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
