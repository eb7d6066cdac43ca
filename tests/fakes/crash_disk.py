"""A file system that remembers every change, so that a test can see what a crash at any moment would leave.

`recording` notes what is changed below one folder, in order. `Recording.leave` then lays out in that folder what could
be found there if the machine had stopped after so many changes:

- `KILL`: the process died; everything it did is there.
- `POWER`: power was lost; only what was synced is there: of a folder the names up to its last fsync, of a file the
  bytes up to its last one.
- `NAMES`: the same, but names were quicker than bytes: files that were renamed into place are empty.
- `BYTES`: the other way round.
- `CHANCE`: of each folder some more changes than were synced, of each file some of the later writes, some of them torn.

This is harsher than any one file system: where ext4 syncs a parent with its child, here it must have been asked for.
"""

import contextlib
import enum
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from bittern.daemon import below

Node = tuple[int, int]


class Crash(enum.Enum):
    """What is left."""

    KILL = "kill"
    POWER = "power"
    NAMES = "names"
    BYTES = "bytes"
    CHANCE = "chance"


@dataclass
class Change:
    """One thing that was done. Names are relative to the recorded folder; `node` is whose bytes or name it is about."""

    kind: Literal["name", "unname", "rename", "folder", "unfolder", "bytes", "size", "sync", "sync folder"]
    path: str = ""
    new_path: str = ""
    node: Node = (0, 0)
    offset: int = 0
    blob: bytes = b""
    mtime_ns: int = 0

    @property
    def folders(self) -> set[str]:
        """Whose list of names it changes."""
        return {os.path.dirname(path) for path in (self.path, self.new_path) if path}


@dataclass
class _Tree:
    folders: set[str] = field(default_factory=set)
    names: dict[str, Node] = field(default_factory=dict)
    contents: dict[Node, bytearray] = field(default_factory=dict)
    mtimes: dict[Node, int] = field(default_factory=dict)


class Recording:
    """`changes` grows while it records."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.changes: list[Change] = []
        self._start = _Tree()
        self._lock = threading.RLock()
        self._pins: dict[Node, int] = {}
        for folder, _, files in os.walk(self.root):
            self._start.folders.add(self._relative(folder))
            for name in files:
                path = os.path.join(folder, name)
                node = self._pin(path)
                self._start.names[self._relative(path)] = node
                self._start.contents[node] = bytearray(Path(path).read_bytes())
                self._start.mtimes[node] = os.stat(path).st_mtime_ns

    def close(self) -> None:
        for fd in self._pins.values():
            _REAL["close"](fd)

    # -- what is left ---------------------------------------------------------------------------------------

    def leave(self, after: int, crash: Crash, rng: random.Random) -> None:
        """Replaces what is in the folder."""
        tree = _Tree(
            set(self._start.folders),
            dict(self._start.names),
            {node: bytearray(blob) for node, blob in self._start.contents.items()},
            dict(self._start.mtimes),
        )
        changes = self.changes[:after]
        kept = self._kept(changes, crash, rng)
        for number, change in enumerate(changes):
            share = kept[number]
            if share:
                _apply(tree, change, share)
        self._lay_out(tree)

    def _kept(self, changes: list[Change], crash: Crash, rng: random.Random) -> list[float]:
        """Of each change how much of it is there: all, nothing, or of a torn write a part."""
        if crash is Crash.KILL:
            return [1.0] * len(changes)
        synced: dict[object, int] = {}
        for number, change in enumerate(changes):
            if change.kind == "sync":
                synced[change.node] = number
            elif change.kind == "sync folder":
                synced[change.path] = number
        reach = dict(synced)
        if crash is Crash.CHANCE:
            everything = {folder for change in changes for folder in change.folders}
            reach = {folder: rng.randint(synced.get(folder, 0), len(changes)) for folder in everything}
        kept = []
        for number, change in enumerate(changes):
            of_bytes = change.kind in {"bytes", "size"}
            if of_bytes:
                durable = synced.get(change.node, -1) > number
                torn = rng.choice([0.0, 0.5, 1.0]) if crash is Crash.CHANCE else 0.0
                kept.append(1.0 if durable or crash is Crash.BYTES else torn)
            else:
                durable = any(reach.get(folder, -1) > number for folder in change.folders)
                kept.append(1.0 if durable or crash is Crash.NAMES else 0.0)
        return kept

    def _lay_out(self, tree: _Tree) -> None:
        for name in os.listdir(self.root):
            path = Path(self.root, name)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        for folder in sorted(tree.folders - {""}):
            with contextlib.suppress(FileNotFoundError):  # below one that is not there
                os.mkdir(os.path.join(self.root, folder))
        at: dict[Node, str] = {}
        for name, node in tree.names.items():
            path = os.path.join(self.root, name)
            if not os.path.isdir(os.path.dirname(path)):
                continue
            if node in at:
                os.link(at[node], path)
                continue
            at[node] = path
            Path(path).write_bytes(tree.contents.get(node, b""))
            mtime_ns = tree.mtimes.get(node, 1)
            os.utime(path, ns=(mtime_ns, mtime_ns))

    # -- recording ------------------------------------------------------------------------------------------

    def _relative(self, path: str) -> str:
        relative = os.path.relpath(path, self.root)
        return "" if relative == "." else relative

    def _inside(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + "/")

    def _pin(self, path: str) -> Node:
        """Keeps the file's number from being given to another one."""
        fd = _REAL["open"](path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        told = os.fstat(fd)
        node = (told.st_dev, told.st_ino)
        if node in self._pins:
            _REAL["close"](fd)
        else:
            self._pins[node] = fd
        return node

    def _full(self, path: Any, dir_fd: int | None = None) -> str:
        text = os.fsdecode(path)
        if dir_fd is not None and not os.path.isabs(text):
            text = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), text)
        return os.path.abspath(text)

    def _of_fd(self, fd: int) -> tuple[str, Node] | None:
        path = os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)")
        if not self._inside(path):
            return None
        told = os.fstat(fd)
        return path, (told.st_dev, told.st_ino)

    def wrapped(self, name: str) -> Callable[..., Any]:
        """`os.NAME`, noting what it does."""
        real, note = _REAL[name], getattr(self, f"_note_{name}")

        def call(*words: Any, **more: Any) -> Any:
            with self._lock:
                return note(real, *words, **more)

        return call

    def _note_open(
        self, real: Any, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        full = self._full(path, dir_fd)
        new = self._inside(full) and bool(flags & os.O_CREAT) and not os.path.lexists(full)
        fd: int = real(path, flags, mode, dir_fd=dir_fd)
        if new:
            self.changes.append(Change("name", self._relative(full), node=self._pin(full)))
        elif self._inside(full) and flags & os.O_TRUNC:
            self._bytes(fd, "size", 0)
        return fd

    def _bytes(self, fd: int, kind: Literal["bytes", "size"], offset: int, blob: bytes = b"") -> None:
        found = self._of_fd(fd)
        if found is not None:
            mtime_ns = os.fstat(fd).st_mtime_ns
            self.changes.append(Change(kind, node=found[1], offset=offset, blob=blob, mtime_ns=mtime_ns))

    def _note_write(self, real: Any, fd: int, blob: Any) -> int:
        try:
            at = os.lseek(fd, 0, os.SEEK_CUR)
        except OSError:
            return int(real(fd, blob))  # a pipe
        done: int = real(fd, blob)
        self._bytes(fd, "bytes", at, bytes(blob[:done]))
        return done

    def _note_pwrite(self, real: Any, fd: int, blob: Any, at: int) -> int:
        done: int = real(fd, blob, at)
        self._bytes(fd, "bytes", at, bytes(blob[:done]))
        return done

    def _note_pwritev(self, real: Any, fd: int, buffers: Any, at: int, flags: int = 0) -> int:
        done: int = real(fd, buffers, at, flags)
        self._bytes(fd, "bytes", at, b"".join(buffers)[:done])
        return done

    def _note_ftruncate(self, real: Any, fd: int, size: int) -> None:
        real(fd, size)
        self._bytes(fd, "size", size)

    def _note_posix_fallocate(self, real: Any, fd: int, at: int, length: int) -> None:
        real(fd, at, length)
        self._bytes(fd, "size", os.fstat(fd).st_size)

    def _note_utime(self, real: Any, path: Any, **when: Any) -> None:
        real(path, **when)
        if isinstance(path, int):
            # goes with the bytes: a sync of the file makes it durable
            self._bytes(path, "bytes", 0)

    def _note_fsync(self, real: Any, fd: int) -> None:
        found = self._of_fd(fd)
        if found is not None:
            path, node = found
            kind: Literal["sync", "sync folder"] = "sync folder" if os.path.isdir(path) else "sync"
            self.changes.append(Change(kind, self._relative(path), node=node))
        # nothing is really lost here, so nothing is really waited for

    _note_fdatasync = _note_fsync

    def _note_link(
        self,
        real: Any,
        path: Any,
        new: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        real(path, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)
        full = self._full(new, dst_dir_fd)
        if self._inside(full):
            self.changes.append(Change("name", self._relative(full), node=self._pin(full)))

    def _note_rename(
        self, real: Any, path: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        before, after = self._full(path, src_dir_fd), self._full(new, dst_dir_fd)
        real(path, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._renamed(before, after)

    _note_replace = _note_rename

    def _renamed(self, before: str, after: str) -> None:
        if self._inside(before) and self._inside(after):
            node = self._pin(after)
            self.changes.append(Change("rename", self._relative(before), self._relative(after), node))

    def wrapped_renameat2(self, real: Any) -> Callable[..., int]:
        """The system call, which `os` does not know, noting what it does."""

        def call(folder: int, name: bytes, beside: int, to: bytes, flags: int) -> int:
            with self._lock:
                before, after = self._full(name, folder), self._full(to, beside)
                failed = int(real(folder, name, beside, to, flags))
                if not failed:
                    self._renamed(before, after)
                return failed

        return call

    def _note_unlink(self, real: Any, path: Any, *, dir_fd: int | None = None) -> None:
        full = self._full(path, dir_fd)
        node = self._pin(full) if self._inside(full) and os.path.lexists(full) else (0, 0)
        real(path, dir_fd=dir_fd)
        if self._inside(full):
            self.changes.append(Change("unname", self._relative(full), node=node))

    _note_remove = _note_unlink

    def _note_mkdir(self, real: Any, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        full = self._full(path, dir_fd)
        real(path, mode, dir_fd=dir_fd)
        if self._inside(full):
            self.changes.append(Change("folder", self._relative(full)))

    def _note_rmdir(self, real: Any, path: Any, *, dir_fd: int | None = None) -> None:
        full = self._full(path, dir_fd)
        real(path, dir_fd=dir_fd)
        if self._inside(full):
            self.changes.append(Change("unfolder", self._relative(full)))


NOTED = [name.removeprefix("_note_") for name in dir(Recording) if name.startswith("_note_")]
_REAL: dict[str, Any] = {name: getattr(os, name) for name in [*NOTED, "close"]}


@contextlib.contextmanager
def recording(root: Path) -> Iterator[Recording]:
    """Notes what this process changes below `root` meanwhile."""
    noted = Recording(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in NOTED:
            patch.setattr(os, name, noted.wrapped(name))
        if below._renameat2 is not None:
            patch.setattr(below, "_renameat2", noted.wrapped_renameat2(below._renameat2))
        yield noted
    noted.close()


def _apply(tree: _Tree, change: Change, share: float) -> None:
    match change.kind:
        case "folder":
            tree.folders.add(change.path)
        case "unfolder":
            tree.folders.discard(change.path)
        case "name":
            tree.names[change.path] = change.node
        case "unname":
            if tree.names.get(change.path) == change.node:
                del tree.names[change.path]
        case "rename" if change.path in tree.folders:
            before, after = change.path, change.new_path

            def moved(path: str) -> str:
                return (
                    after + path[len(before) :] if path == before or path.startswith(f"{before}/") else path
                )

            tree.folders = set(map(moved, tree.folders))
            tree.names = {moved(path): node for path, node in tree.names.items()}
        case "rename":
            if tree.names.get(change.path) == change.node:
                del tree.names[change.path]
            tree.names[change.new_path] = change.node
        case "bytes":
            blob = change.blob[: int(len(change.blob) * share)]
            content = tree.contents.setdefault(change.node, bytearray())
            if len(content) < change.offset:
                content.extend(bytes(change.offset - len(content)))
            content[change.offset : change.offset + len(blob)] = blob
            tree.mtimes[change.node] = change.mtime_ns
        case "size":
            content = tree.contents.setdefault(change.node, bytearray())
            del content[change.offset :]
            content.extend(bytes(change.offset - len(content)))
            tree.mtimes[change.node] = change.mtime_ns
