"""Which files of a torrent are fetched, and how soon: from a wish to its record, and what follows.

A wish is decided in one synchronous step: the record says what is wanted from then on, and so does the torrent. It is
durable before it counts as taken. Of a torrent whose files are not known yet the wish itself is kept.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bittern.disk.disk import DiskGate
from bittern.disk.paths import plan_paths
from bittern.disk.resume import ResumeRecord
from bittern.engine.flusher import Flusher
from bittern.engine.opening import Opener
from bittern.engine.swarms import Swarms
from bittern.engine.torrent import Torrent
from bittern.errors import FileSelectionError
from bittern.policy.selection import (
    Choice,
    choose,
    fitting,
    pack_choice,
    pack_levels,
    piece_bands,
    skipped_files,
    unpack_choice,
    unpack_levels,
    wanted_pieces,
)
from bittern.proto.layout import Layout
from bittern.proto.metainfo import Metainfo


class SelectingHost(Protocol):
    """What this needs of the lifecycle."""

    disk: DiskGate
    opener: Opener
    flusher: Flusher
    swarms: Swarms

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def reselected(self, torrent: Torrent) -> None:
        """Other files are wanted than before."""


class Selected(NamedTuple):
    """What a record says of files, and what follows for pieces."""

    selection: str
    wanted: bytes
    bands: bytes | None
    other_files: bool
    """Are other files skipped than before?"""


def select_in(record: ResumeRecord, metainfo: Metainfo, choice: Choice | None = None) -> None:
    """Of a record that nothing follows from yet; without a choice what it says already, if that fits.
    `FileSelectionError`.
    """
    if choice is None and not record.selection:
        return
    layout, names = Layout.of(metainfo), names_below(plan_paths(metainfo, record.root))
    try:
        selected = _selected(record.selection, choice or Choice(), layout, names)
    except FileSelectionError:
        if choice is not None:
            raise
        record.selection = ""
        return
    record.selection, record.wanted = selected.selection, selected.wanted


def wished(packed: str, metainfo: Metainfo) -> Selected | None:
    """What a wish (`pack_choice`) that came before the files were known comes to; None: all of them, as when it names
    only files that are not there. For a thread.
    """
    names = names_below(plan_paths(metainfo))
    choice = unpack_choice(packed)
    if choice.empty:
        return None
    selected = _selected("", fitting(choice, len(names)), Layout.of(metainfo), names)
    found = not selected.wanted or any(selected.wanted)
    return selected if found or not choice.only else None


def names_below(paths: Sequence[str | None]) -> list[str | None]:
    """Paths below the torrent's own folder, or its name where it is one file."""
    return [path if path is None else path.partition("/")[2] or path for path in paths]


def _selected(packed: str, choice: Choice, layout: Layout, names: Sequence[str | None]) -> Selected:
    before = unpack_levels(packed, len(names))
    levels = choose(before, choice, names)
    pads = frozenset(index for index, name in enumerate(names) if name is None)
    wanted = wanted_pieces(levels, layout, pads)
    return Selected(
        pack_levels(levels),
        b"" if wanted is None else wanted.to_bytes(),
        piece_bands(levels, layout, pads),
        skipped_files(levels) != skipped_files(before),
    )


class Selecting:
    """The session's; stateless."""

    def __init__(self, host: SelectingHost) -> None:
        self._host = host

    async def select(self, torrent: Torrent, choice: Choice | None, *, sequential: bool | None) -> None:
        """Durable when it returns. `FileSelectionError` for a file that it has not; `StorageError`."""
        record = torrent.record
        if sequential is not None:
            self._set_sequential(torrent, sequential)
        if choice is not None and not choice.empty:
            if record.state == "metadata":
                self._wish(record, choice)
            else:
                await self._choose(torrent, choice)
        if self._host.known(torrent):
            await self._host.flusher.durable(torrent)

    def _wish(self, record: ResumeRecord, choice: Choice) -> None:
        record.choice = pack_choice(unpack_choice(record.choice).then(choice))

    def _set_sequential(self, torrent: Torrent, sequential: bool) -> None:
        torrent.record.sequential = sequential
        swarm = self._host.swarms.live.get(torrent.info_hash)
        if swarm is not None:
            swarm.set_sequential(sequential)

    async def _choose(self, torrent: Torrent, choice: Choice) -> None:
        while True:
            before = torrent.record.selection
            selected = await self._host.disk.call(self._work_out, torrent.record, before, choice)
            if torrent.record.selection == before:
                # nobody else chose meanwhile
                break
        self._decide(torrent, selected)

    def _work_out(self, record: ResumeRecord, before: str, choice: Choice) -> Selected:
        """In a thread: there may be 100 000 files."""
        opened = self._host.opener.open(record, record.folder, record.root)
        return _selected(before, choice, opened.layout, names_below(opened.names))

    def _decide(self, torrent: Torrent, selected: Selected) -> None:
        record = torrent.record
        if selected.selection == record.selection or not self._host.known(torrent):
            return
        record.selection, record.wanted = selected.selection, selected.wanted
        torrent.selection_changed()
        if selected.other_files:
            self._host.reselected(torrent)
            return
        swarm = self._host.swarms.live.get(torrent.info_hash)
        if swarm is not None:
            swarm.prioritize(selected.bands)
