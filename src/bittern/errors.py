"""What can go wrong, named by who dies of it.

A `PeerError` ends one connection, a `TorrentError` puts one torrent into `ERROR`, a `TrackerError` makes one
tracker wait, a `DaemonError` makes the process refuse to run, a `CallError` says that a call of the Python API came to
nothing. Anything else that is raised is a bug.
"""

from collections.abc import Sequence


class BitternError(Exception):
    """Base of everything that bittern raises on purpose."""


class BencodeError(BitternError):
    """Bytes that are not strict bencode; its users turn it into the error of who sent them."""


class BencodeTruncated(BencodeError):
    """The bytes end before the value does: more of them could still make it right."""


class PeerError(BitternError):
    """The connection dies, nothing else."""


class ProtocolError(PeerError):
    """The remote peer broke the protocol."""


class BadBlock(ProtocolError):
    """The remote peer sent something that is no block of its piece: no client does so by mistake."""

    def __init__(self, message: str, piece: int) -> None:
        super().__init__(message)
        self.piece = piece


class HandshakeError(PeerError):
    """The remote end is no peer of ours: not BitTorrent, another torrent, ourselves, or a duplicate."""


class TurnedAway(HandshakeError):
    """It took the connection and closed it without a word: it is there, and has no room, or not that torrent."""


class PeerGone(PeerError):
    """The connection ended or was given up; nobody is to blame."""


class FileSelectionError(BitternError):
    """A wish about files that makes no sense for that torrent; the message says why in one line."""


class TrackerListError(BitternError):
    """A wish about a torrent's trackers that cannot be; the message says why in one line."""


class TorrentError(BitternError):
    """The torrent goes to `ERROR`; its siblings notice nothing."""


class MetainfoError(TorrentError):
    """A .torrent that is refused; the message says why in one line."""


class MetainfoTruncated(MetainfoError):
    """A .torrent that ends too early: it may still be being written."""


class MagnetError(TorrentError):
    """A magnet link that is refused; the message says why in one line."""


class StorageError(TorrentError):
    """The file system said no.

    `errno` is the kernel's number (0: none), `path` the file it is about ("" when unknown).
    """

    def __init__(self, reason: str, *, errno: int = 0, path: str = "") -> None:
        super().__init__(reason)
        self.errno = errno
        self.path = path


class PlaceGone(StorageError):
    """The folder is away, or another one lies in its place: its disk is not mounted. Nothing was written there."""


class TrackerError(BitternError):
    """One tracker could not be used; `retry_in_s` is its own wish (BEP 31), `inf` for never, None when it has none."""

    def __init__(self, reason: str, *, retry_in_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_in_s = retry_in_s


class DaemonError(BitternError):
    """The process refuses to run: one clear line and exit status 78 (EX_CONFIG)."""


class ConfigError(DaemonError):
    """A configuration that cannot be used: one line a fault, each `FILE: key.path: what is wrong, and what to do`."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class StateError(DaemonError):
    """A state folder that cannot be used: locked by another daemon, not writable, or of a newer format."""


class PortTaken(DaemonError):
    """The port that was named for peers cannot be listened on."""


class CallError(BitternError):
    """A call of the Python API came to nothing; nobody is the worse for it."""


class TorrentNotFound(CallError):
    """There is no such torrent, or it was removed."""


class OptionError(CallError, ValueError):
    """A session cannot be told that; the message names the option."""


class UnknownField(CallError):
    """A torrent has no field of that name."""


class SessionClosed(CallError):
    """The session has ended."""


class SessionFailed(CallError):
    """A bug of ours has ended the session; its cause is told."""
