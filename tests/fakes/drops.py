"""A session that only takes torrents in, and drops for it: `d…e` is whole, anything after `d` is short."""

import errno
import hashlib
from typing import NamedTuple

import trio

from bittern.daemon.aside import Put, put_all_aside
from bittern.daemon.sweep import Stamp
from bittern.errors import MetainfoError, MetainfoTruncated, StorageError
from bittern.proto.magnet import parse_magnet
from bittern.terms import InfoHash


class Taken(NamedTuple):
    kind: str
    info_hash: InfoHash
    name: str


def torrent(text):
    return b"d" + text.encode("utf-8", "surrogateescape") + b"e"


def hash_of(blob):
    return InfoHash(hashlib.sha1(blob).digest())


def put_aside(path: str, stamp: Stamp, subfolder: str | None, reason: str = "", root: str = "") -> str | None:
    """One file alone; what stood in its way is raised."""
    above, _, name = path.rpartition("/")
    (outcome,) = put_all_aside(above, root, [Put(name, stamp, subfolder, reason)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class DropSession:
    def __init__(self):
        self.torrents = {}
        self.calls = []
        self.removed = []
        self.full = False
        self.ours = set()
        self.now_adding = 0
        self.most_adding = 0

    async def add(self, blob, terms):
        self.calls.append(terms.drop_path)
        self.now_adding += 1
        self.most_adding = max(self.most_adding, self.now_adding)
        try:
            await trio.sleep(0.001)
        finally:
            self.now_adding -= 1
        if not blob.startswith(b"d"):
            raise MetainfoError("not a dictionary\nat all")
        if not blob.endswith(b"e"):
            raise MetainfoTruncated("ends too early")
        if self.full:
            raise StorageError("no space left for the record", errno=errno.ENOSPC)
        info_hash = hash_of(blob)
        kind = "known" if info_hash in self.torrents else "added"
        if kind == "added":
            self.torrents[info_hash] = terms
        return Taken(kind, info_hash, "name")

    async def add_magnet(self, link, terms):
        self.calls.append(terms.drop_path)
        await trio.sleep(0.001)
        magnet = parse_magnet(link)
        if self.full:
            raise StorageError("no space left for the record", errno=errno.ENOSPC)
        kind = "known" if magnet.info_hash in self.torrents else "added"
        if kind == "added":
            self.torrents[magnet.info_hash] = terms
        return Taken(kind, magnet.info_hash, magnet.name)

    async def remove(self, info_hash, *, reason):
        self.removed.append((info_hash, reason))
        return self.torrents.pop(info_hash, None) is not None

    def tied(self):
        found = {}
        for info_hash, one in self.torrents.items():
            if one.tie:
                found[one.drop_path] = (*found.get(one.drop_path, ()), info_hash)
        return found

    async def is_ours(self, path):
        return path in self.ours
