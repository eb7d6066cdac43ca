"""Which files of a torrent are fetched, and how soon: from a wish to its record, and what follows.

A wish is decided in one synchronous step: the record says what is wanted from then on, and so does the torrent. It is
durable before it counts as taken. Of a torrent whose files are not known yet the wish itself is kept.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

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


class Wish(NamedTuple):
    """What a wish comes to; None: all files, in any order."""

    selected: Selected | None
    complaint: str = ""
    """What could not be followed; "": nothing."""


ALL_FILES: Final = Wish(None)


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


def wished(packed: str, metainfo: Metainfo) -> Wish:
    """What a wish (`pack_choice`) that came before the files were known comes to: all of them, when it names only files
    that are not there. For a thread.
    """
    names = names_below(plan_paths(metainfo))
    choice = unpack_choice(packed)
    if choice.empty:
        return ALL_FILES
    fitted = fitting(choice, len(names))
    selected = _selected("", fitted, Layout.of(metainfo), names)
    if choice.only and selected.wanted and not any(selected.wanted):
        return Wish(None, "has none of the files that were to be selected; all are downloaded")
    if fitted != choice:
        return Wish(selected, f"has {len(names)} files; what was said of higher numbers is ignored")
    return Wish(selected)


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

    async def take_too(self, torrent: Torrent, ranges: tuple[tuple[int, int], ...]) -> bool:
        """Files that another link of it names are wanted as well (BEP 53), so far as it has them. True: that is new,
        and is yet to be durable. `StorageError`.
        """
        record, choice = torrent.record, Choice(take=ranges)
        before = record.choice, record.selection
        if record.state == "metadata":
            # more than a wish may say is left out: links are many, and nobody waits for a verdict on this
            with contextlib.suppress(FileSelectionError):
                if record.choice:
                    known = unpack_choice(record.choice).take
                    self._wish(record, replace(choice, take=tuple(one for one in ranges if one not in known)))
        elif record.selection:
            await self._choose(torrent, choice, fit=True)
        return (record.choice, record.selection) != before

    def _wish(self, record: ResumeRecord, choice: Choice) -> None:
        record.choice = pack_choice(unpack_choice(record.choice).then(choice))

    def _set_sequential(self, torrent: Torrent, sequential: bool) -> None:
        torrent.record.sequential = sequential
        swarm = self._host.swarms.live.get(torrent.info_hash)
        if swarm is not None:
            swarm.set_sequential(sequential)

    async def _choose(self, torrent: Torrent, choice: Choice, *, fit: bool = False) -> None:
        while True:
            before = torrent.record.selection
            selected = await self._host.disk.call(self._work_out, torrent.record, before, choice, fit)
            if torrent.record.selection == before:
                # nobody else chose meanwhile
                break
        self._decide(torrent, selected)

    def _work_out(self, record: ResumeRecord, before: str, choice: Choice, fit: bool) -> Selected:
        """In a thread: there may be 100 000 files."""
        opened = self._host.opener.open(record, record.folder, record.root)
        names = names_below(opened.names)
        return _selected(before, fitting(choice, len(names)) if fit else choice, opened.layout, names)

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
