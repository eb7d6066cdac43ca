"""`bittern create`: a .torrent of a file or folder."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from bittern.disk.creating import Content

EX_DATAERR: Final = 65
EX_NOINPUT: Final = 66
EX_CANTCREAT: Final = 73
EX_USAGE: Final = 64

EPOCH_DIGITS: Final = 12


@click.command(epilog="Example: bittern create --tracker http://tracker.example/announce debian-12.iso")
@click.option(
    "-t",
    "--tracker",
    "trackers",
    metavar="URL[,URL]...",
    multiple=True,
    help="A tier of trackers; those of the next --tracker are asked when none of these answers.",
)
@click.option(
    "-w", "--web-seed", "web_seeds", metavar="URL", multiple=True, help="Where the data is by HTTP, too."
)
@click.option("-p", "--private", is_flag=True, help="Nobody but its trackers may name peers (BEP 27).")
@click.option("-c", "--comment", default="", help="A line for people.")
@click.option("-s", "--piece-size", metavar="SIZE", help='Such as "1 MiB"; else chosen for some 1000 pieces.')
@click.option("-o", "--output", metavar="FILE", help="Where it goes; else NAME.torrent in this folder.")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.argument("path", type=click.Path())
def create(
    path: str,
    trackers: tuple[str, ...],
    web_seeds: tuple[str, ...],
    private: bool,
    comment: str,
    piece_size: str | None,
    output: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a .torrent of the file or folder PATH, hashed on all cores.

    Links and special files are left out, and named. SOURCE_DATE_EPOCH, where it is set, is its date. Exit status 64 for
    a bad wish, 65 when no torrent can be made of it, 66 when it cannot be read, 73 when the .torrent cannot be written.
    """
    from bittern.disk.creating import find_content
    from bittern.errors import MetainfoError, StorageError
    from bittern.proto.metainfo import parse_metainfo

    tiers = tuple(tuple(filter(None, tier.split(","))) for tier in trackers)
    _require_urls([url for tier in tiers for url in tier], web_seeds)
    if private and not any(tiers):
        _fail(EX_USAGE, "a private torrent finds peers by its trackers alone: name one (--tracker)")
    length = None if piece_size is None else _piece_length(piece_size)
    try:
        content = find_content(path)
        target = Path(output if output is not None else f"{content.root}.torrent")
        if not force and os.path.lexists(target):
            _fail(EX_CANTCREAT, f"{target}: is there already; --force replaces it")
        for one in content.left_out:
            click.echo(_harmless(f"{one}: no ordinary file, left out"), err=True)
        info = _info(content, length, private=private, shown=not as_json)
    except StorageError as error:
        _fail(EX_NOINPUT, str(error))
    blob = _metainfo(info, tuple(filter(None, tiers)), web_seeds, comment)
    try:
        metainfo = parse_metainfo(blob)
    except MetainfoError as error:
        _fail(EX_DATAERR, f"{path}: no torrent can be made of it: {error}")
    _write(target, blob, force=force)
    told = {
        "file": str(target),
        "info_hash": metainfo.info_hash.hex(),
        "name": metainfo.name,
        "total_bytes": metainfo.total_bytes,
        "files": len(metainfo.files),
        "piece_length": metainfo.piece_length,
        "piece_count": metainfo.piece_count,
        "private": metainfo.private,
        "left_out": list(content.left_out),
        "magnet": _magnet(metainfo.info_hash.hex(), metainfo.name, [url for tier in tiers for url in tier]),
    }
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    from bittern.control.units import size

    click.echo(_harmless(f"{target}"))
    click.echo(
        f"{told['info_hash']}  {size(metainfo.total_bytes)} in {metainfo.piece_count} pieces of "
        f"{size(metainfo.piece_length)}"
    )


def _info(content: "Content", piece_length: int | None, *, private: bool, shown: bool) -> bytes:
    from bittern.cli.progress import progress
    from bittern.disk.creating import piece_digests
    from bittern.errors import StorageError
    from bittern.proto.creation import choose_piece_length, make_info
    from bittern.proto.layout import Layout

    total = content.total_bytes
    if not total:
        _fail(EX_DATAERR, "there is not a byte in it")
    layout = Layout(piece_length or choose_piece_length(total), total, content.lengths)
    names = [os.fsencode(path) for path in content.paths]
    for name in names:
        try:
            name.decode()
        except UnicodeDecodeError:
            _fail(EX_DATAERR, f"{os.fsdecode(name)!r}: its name is not UTF-8, which others could not read")
    before = _stamps(content)
    with progress("hashing", total, shown=shown) as advance:
        digests = piece_digests(content.folder, content.paths, layout, advance)
    whole = [digest for digest in digests if digest is not None]
    if (
        len(whole) < len(digests)
        or tuple(one[0] for one in before) != content.lengths
        or _stamps(content) != before
    ):
        raise StorageError(
            f"{content.folder}/{content.root}: was changed meanwhile, or cannot be read to its end"
        )
    root = os.fsencode(content.root)
    below = [(name[len(root) + 1 :], length) for name, length in zip(names, content.lengths, strict=True)]
    return make_info(
        root,
        total if content.lone else below,
        piece_length=layout.piece_length,
        piece_hashes=b"".join(whole),
        private=private,
    )


def _stamps(content: "Content") -> list[tuple[int, int, int]]:
    """Length first; the rest tells that a file was written or replaced."""
    try:
        found = [os.lstat(f"{content.folder}/{path}") for path in content.paths]
    except OSError:
        return []
    return [(one.st_size, one.st_mtime_ns, one.st_ino) for one in found]


def _metainfo(
    info: bytes, tiers: tuple[tuple[str, ...], ...], web_seeds: tuple[str, ...], comment: str
) -> bytes:
    from bittern import __version__
    from bittern.proto.creation import make_metainfo

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return make_metainfo(
        info,
        trackers=tiers,
        web_seeds=web_seeds,
        comment=comment.encode("utf-8", "replace").decode(),
        created_by=f"bittern {__version__}",
        creation_date=int(epoch)
        if epoch.isascii() and epoch.isdigit() and len(epoch) <= EPOCH_DIGITS
        else int(time.time()),
    )


def _require_urls(trackers: list[str], web_seeds: tuple[str, ...]) -> None:
    from bittern.proto.metainfo import TRACKER_SCHEMES, WEB_SEED_SCHEMES, usable_url

    for urls, schemes in ((trackers, TRACKER_SCHEMES), (web_seeds, WEB_SEED_SCHEMES)):
        for url in urls:
            if usable_url(os.fsencode(url), schemes) is None:
                _fail(EX_USAGE, f"{url!r}: write a URL that begins with {' or '.join(schemes)}")


def _piece_length(text: str) -> int:
    from bittern.daemon.sizes import parse_size
    from bittern.proto.metainfo import MAX_PIECE_LENGTH
    from bittern.terms import BLOCK_SIZE

    try:
        length = int(parse_size(text))
    except ValueError as error:
        _fail(EX_USAGE, f"--piece-size: {error}")
    if length & (length - 1) or not BLOCK_SIZE <= length <= MAX_PIECE_LENGTH:
        _fail(EX_USAGE, "--piece-size: write a power of two from 16 KiB to 256 MiB")
    return length


def _write(target: Path, blob: bytes, *, force: bool) -> None:
    from bittern.disk.atomic import write_atomic

    try:
        if force:
            write_atomic(target, blob)
        else:
            with target.open("xb") as file:
                file.write(blob)
    except OSError as error:
        _fail(EX_CANTCREAT, f"{target}: cannot be written ({error.strerror})")


def _magnet(info_hash: str, name: str, trackers: list[str]) -> str:
    from urllib.parse import quote

    parts = [f"xt=urn:btih:{info_hash}", f"dn={quote(name, safe='')}"]
    return "magnet:?" + "&".join(parts + [f"tr={quote(url, safe='')}" for url in trackers])


def _fail(status: int, sentence: str) -> NoReturn:
    click.echo(_harmless(sentence), err=True)
    sys.exit(status)


def _harmless(text: str) -> str:
    from bittern.cli.terminal import harmless

    return harmless(text)
