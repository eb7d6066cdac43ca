"""`bittern verify`: does that data fit that .torrent? Without the daemon."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from bittern.proto.layout import Layout
    from bittern.proto.metainfo import Metainfo

EX_WRONG: Final = 1
EX_DATAERR: Final = 65
EX_NOINPUT: Final = 66


@dataclass(slots=True)
class Found:
    """One file. `status`: ok, missing, shorter, longer, damaged; or uncertain, where only pieces that it shares with a
    wrong file do not fit.
    """

    path: str
    length: int
    size: int | None
    bad_pieces: int
    status: str = "ok"


@click.command(epilog="Example: bittern verify debian-12.torrent /srv/bittern/downloads")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with every file, for programs.")
@click.argument("torrent", metavar="FILE.torrent", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path())
def verify(torrent: Path, folder: str, as_json: bool) -> None:
    """Check the data in FOLDER against FILE.torrent, on all cores, and name the files that are wrong.

    FOLDER is what holds the torrent's data, as a download folder does, or the data itself. Nothing is changed, and no
    daemon is asked. Exit status 0 when every piece fits, 1 when not, 65 when the .torrent is refused, 66 when there is
    nothing to read.
    """
    from bittern.cli.progress import progress
    from bittern.disk.creating import piece_digests
    from bittern.proto.layout import Layout

    metainfo = _read(torrent)
    base, paths = _placed(metainfo, folder)
    layout = Layout.of(metainfo)
    with progress("checking", metainfo.total_bytes, shown=not as_json) as advance:
        digests = piece_digests(base, paths, layout, advance)
    bad = [index for index, digest in enumerate(digests) if digest != metainfo.piece_hash(index)]
    files = _judge(base, paths, layout, bad)
    wrong = [file for file in files if file.status != "ok"]
    if as_json:
        told = {
            "ok": not wrong and not bad,
            "info_hash": metainfo.info_hash.hex(),
            "name": metainfo.name,
            "folder": base,
            "total_bytes": metainfo.listed_bytes,
            "piece_count": metainfo.piece_count,
            "bad_pieces": len(bad),
            "files": [
                {
                    "path": file.path,
                    "status": file.status,
                    "length": file.length,
                    "size": file.size,
                    "bad_pieces": file.bad_pieces,
                }
                for file in files
            ],
        }
        click.echo(json.dumps(told, indent=2))
    else:
        _print(metainfo, files, wrong, len(bad))
    sys.exit(EX_WRONG if wrong or bad else 0)


def _read(torrent: Path) -> "Metainfo":
    from bittern.errors import MetainfoError
    from bittern.proto.metainfo import MAX_METAINFO_BYTES, parse_metainfo

    try:
        with torrent.open("rb") as opened:
            return parse_metainfo(opened.read(MAX_METAINFO_BYTES + 1))
    except OSError as error:
        _fail(EX_NOINPUT, f"{torrent}: cannot be read ({error.strerror})")
    except MetainfoError as error:
        _fail(EX_DATAERR, f"{torrent}: {error}")


def _placed(metainfo: "Metainfo", folder: str) -> tuple[str, list[str | None]]:
    """The folder, and each file's path below it: whether it holds the data, or is it."""
    from bittern.disk.paths import plan_paths

    real = os.path.realpath(folder)
    paths = plan_paths(metainfo)
    root = next(path for path in paths if path is not None).split("/", 1)[0]
    if Path(real).is_file() and not metainfo.multi_file:
        base, name = os.path.split(real)
        return base, [name]
    if not Path(real).is_dir():
        _fail(EX_NOINPUT, f"{folder}: is not there, or no folder")
    if metainfo.multi_file and not os.path.lexists(f"{real}/{root}"):
        inner = [None if path is None else path.split("/", 1)[1] for path in paths]
        if any(path is not None and os.path.lexists(f"{real}/{path}") for path in inner):
            return real, inner
    return real, paths


def _judge(base: str, paths: list[str | None], layout: "Layout", bad: list[int]) -> list[Found]:
    found: dict[int, Found] = {}
    for index, path in enumerate(paths):
        if path is not None:
            length, size = layout.lengths[index], _size(f"{base}/{path}")
            found[index] = Found(path, length, size, 0, _by_size(length, size))
    shared: list[list[Found]] = []
    for piece in bad:
        of_it = [found[index] for index in layout.files_of_piece(piece) if index in found]
        of_it = [file for file in of_it if file.length]
        for file in of_it:
            file.bad_pieces += 1
        if len(of_it) == 1 and of_it[0].status in {"ok", "longer"}:
            of_it[0].status = "damaged"
        shared.append(of_it)
    for of_it in shared:
        guilty = any(file.status not in {"ok", "longer", "uncertain"} for file in of_it)
        for file in of_it:
            if file.status in {"ok", "longer"}:
                file.status = "uncertain" if guilty else "damaged"
    return list(found.values())


def _size(path: str) -> int | None:
    try:
        return os.lstat(path).st_size
    except OSError:
        return None


def _by_size(length: int, size: int | None) -> str:
    if size is None:
        return "missing"
    return "ok" if size == length else "shorter" if size < length else "longer"


def _print(metainfo: "Metainfo", files: list[Found], wrong: list[Found], bad: int) -> None:
    from bittern.cli.terminal import aligned, harmless

    if wrong:
        rows = (
            (file.status, str(file.bad_pieces or ""), f"{file.size or 0} of {file.length}", file.path)
            for file in wrong
        )
        heads = ("state", "bad pieces", "bytes", "file")
        click.echo(aligned(heads, rows, right=("bad pieces", "bytes")))
    verdict = (
        f"{len(wrong)} of {len(files)} files are wrong, {bad} of {metainfo.piece_count} pieces do not fit"
        if wrong or bad
        else f"all {metainfo.piece_count} pieces fit, in {len(files)} file{'s' * (len(files) != 1)}"
    )
    click.echo(harmless(f"{metainfo.name}: {verdict}"))


def _fail(status: int, sentence: str) -> NoReturn:
    from bittern.cli.terminal import harmless

    click.echo(harmless(sentence), err=True)
    sys.exit(status)
