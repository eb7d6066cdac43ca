"""A .torrent's bytes: right ones as they are meant, wrong ones refused in one line, the same info hash as elsewhere."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libtorrent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import MetainfoError, MetainfoTruncated
from bittern.proto import metainfo
from bittern.proto.bencode import encode
from bittern.proto.metainfo import (
    MAX_COMPONENTS,
    MAX_DATE,
    MAX_FILES,
    MAX_METAINFO_BYTES,
    MAX_NODES,
    MAX_PATH_BYTES,
    MAX_PIECE_LENGTH,
    MAX_TEXT,
    MAX_TOTAL_BYTES,
    MAX_TRACKERS,
    MAX_URL_BYTES,
    MAX_WEB_SEEDS,
    FileEntry,
    Metainfo,
    parse_metainfo,
)

PIECE = 32768


def single(**changes: Any) -> dict[bytes, Any]:
    return _changed(
        {b"name": b"a.bin", b"length": 100_000, b"piece length": PIECE, b"pieces": bytes(80)}, changes
    )


def multi(*files: dict[bytes, Any], **changes: Any) -> dict[bytes, Any]:
    listed = list(files) or [file("a", 40_000), file("b/c", 60_000)]
    total = sum(one[b"length"] for one in listed if isinstance(one.get(b"length"), int))
    pieces = bytes(20 * min(max(0, -(-total // PIECE)), 10_000))
    return _changed(
        {b"name": b"folder", b"files": listed, b"piece length": PIECE, b"pieces": pieces}, changes
    )


def file(path: str, length: Any, **more: Any) -> dict[bytes, Any]:
    return _changed({b"path": path.encode().split(b"/"), b"length": length}, more)


def _changed(told: dict[bytes, Any], changes: dict[str, Any]) -> dict[bytes, Any]:
    """`piece_length=5` changes `piece length`; None takes the key away."""
    for key, value in changes.items():
        name = key.replace("__", "-").replace("_", " ").encode()
        if value is None:
            told.pop(name, None)
        else:
            told[name] = value
    return told


def parsed(info: Any, **top: Any) -> Metainfo:
    return parse_metainfo(encode(_changed({b"info": info}, top)))


def refused(info: Any, **top: Any) -> str:
    with pytest.raises(MetainfoError) as caught:
        parsed(info, **top)
    assert not isinstance(caught.value, MetainfoTruncated)
    assert str(caught.value).isprintable()
    return str(caught.value)


# -- what is right ------------------------------------------------------------------------------------------


def test_a_single_file() -> None:
    hashes = bytes(range(80))
    metainfo = parsed(single(pieces=hashes), announce=b"http://t/a")
    assert metainfo == Metainfo(
        info_hash=hashlib.sha1(encode(single(pieces=hashes))).digest(),  # type: ignore[arg-type]  # 20 bytes
        name="a.bin",
        piece_length=PIECE,
        total_bytes=100_000,
        piece_hashes=hashes,
        multi_file=False,
        files=(FileEntry((), 100_000),),
        private=False,
        trackers=(("http://t/a",),),
        web_seeds=(),
        comment=None,
        created_by=None,
        creation_date=None,
        hybrid=False,
        info_span=(30, 30 + len(encode(single(pieces=hashes)))),
    )
    assert metainfo.piece_count == 4
    assert [metainfo.piece_hash(index) for index in (0, 3)] == [hashes[:20], hashes[60:]]


def test_nodes_of_the_dht() -> None:
    good = [[b"router.example", 6881], [b"192.0.2.1", 7], [b"2001:db8::1", 7]]
    bad = [
        [b"", 1],
        [b"x", 0],
        [b"x", 65536],
        [b"x"],
        [1, b"x"],
        b"x",
        [b"a b", 1],
        [b"\xff", 1],
        [b"a\0", 1],
    ]
    nodes = parsed(single(), nodes=[*good, *bad, good[0]]).nodes
    assert nodes == tuple((host.decode(), port) for host, port in good)
    assert parsed(single(), nodes=b"odd").nodes == ()
    assert len(parsed(single(), nodes=[[b"n%d" % n, 1] for n in range(500)]).nodes) == MAX_NODES


def test_several_files_with_pads_attributes_and_empty_ones() -> None:
    metainfo = parsed(
        multi(
            file("a", 1000, attr=b"x"),
            file(".pad/31768", PIECE - 1000, attr=b"p"),
            file("b/empty", 0),
            file("b/c", 5, attr=b"hx"),
        )
    )
    assert metainfo.files == (
        FileEntry(("a",), 1000, executable=True),
        FileEntry((".pad", "31768"), PIECE - 1000, pad=True),
        FileEntry(("b", "empty"), 0),
        FileEntry(("b", "c"), 5, executable=True),
    )
    assert metainfo.multi_file
    assert (metainfo.total_bytes, metainfo.listed_bytes, metainfo.piece_count) == (PIECE + 5, 1005, 2)


def test_a_pad_needs_no_path() -> None:
    pad = {b"length": 3, b"attr": b"p"}
    assert parsed(multi(file("a", 5), pad)).files[1].pad


def test_nothing_to_download_is_a_torrent_too() -> None:
    assert parsed(single(length=0, pieces=b"")).piece_count == 0
    assert parsed(multi(file("a", 0), file("b", 0))).total_bytes == 0


def test_utf_8_names_go_first() -> None:
    info = multi(
        file("old", 1, path__utf__8=None) | {b"path.utf-8": ["grün".encode(), "é".encode()]},
        file("kept", 1) | {b"path.utf-8": 5},
        file("kept too", 1) | {b"path.utf-8": []},
    ) | {b"name.utf-8": "schön".encode()}
    metainfo = parsed(info)
    assert metainfo.name == "schön"
    assert [one.components for one in metainfo.files] == [("grün", "é"), ("kept",), ("kept too",)]
    assert parsed(single() | {b"name.utf-8": b""}).name == "a.bin"
    assert parsed(single() | {b"name.utf-8": 7}).name == "a.bin"


def test_names_that_are_not_utf_8_are_stable() -> None:
    info = multi(file("x", 1) | {b"path": [b"caf\xe9", b"\xff\xfe.txt"]}, name=b"na\xefve")
    metainfo = parsed(info)
    assert metainfo.name == "na%EFve"
    assert metainfo.files[0].components == ("caf%E9", "%FF%FE.txt")
    assert parsed(info) == metainfo


def test_the_hash_is_over_the_bytes_as_they_came() -> None:
    info = b"d12:piece lengthi32768e6:pieces20:" + bytes(20) + b"4:name1:a6:lengthi1e4:zzzz3:aaa4:yyyyi0ee"
    metainfo = parse_metainfo(b"d7:comment1:x4:info" + info + b"8:announce10:http://t/ae")
    assert metainfo.info_hash == hashlib.sha1(info).digest()
    assert metainfo.comment == "x"
    assert metainfo.trackers == (("http://t/a",),)


@pytest.mark.parametrize(
    ("told", "private"), [(1, True), (0, False), (None, False), (b"1", False), (2, True)]
)
def test_private(told: Any, private: bool) -> None:
    assert parsed(single(private=told)).private is private


# -- the same as elsewhere ----------------------------------------------------------------------------------


def _made_by_libtorrent(folder: Path, flags: int) -> tuple[bytes, bytes]:
    """A torrent of some files, and its v1 info hash in libtorrent's eyes."""
    root = folder / "wörld"
    for name, size in (("a", 70_000), ("sub/empty", 0), ("sub/b.bin", 5), ("zz", 16384)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\x07" * size)
    files = libtorrent.list_files(str(root))
    made = libtorrent.create_torrent(files, piece_size=16384, flags=flags)
    made.add_tracker("http://t.example/a", 0)
    made.add_tracker("http://u.example/a", 1)
    made.add_url_seed("http://seed.example/")
    made.set_comment("a comment")
    libtorrent.set_piece_hashes(made, str(folder))
    blob = libtorrent.bencode(made.generate())
    return blob, libtorrent.torrent_info(libtorrent.bdecode(blob)).info_hashes().v1.to_bytes()


@pytest.mark.parametrize(("flags", "hybrid"), [(libtorrent.create_torrent.v1_only, False), (0, True)])
def test_the_same_hash_as_libtorrents(tmp_path: Path, flags: int, hybrid: bool) -> None:
    blob, info_hash = _made_by_libtorrent(tmp_path, flags)
    metainfo = parse_metainfo(blob)
    assert metainfo.info_hash == info_hash
    assert metainfo.hybrid is hybrid
    assert metainfo.name == "wörld"
    files = {"/".join(one.components): one.length for one in metainfo.files if not one.pad}
    assert files == {"a": 70_000, "sub/empty": 0, "sub/b.bin": 5, "zz": 16384}
    assert metainfo.listed_bytes == 86_389
    assert metainfo.trackers == (("http://t.example/a",), ("http://u.example/a",))
    assert metainfo.web_seeds == ("http://seed.example/",)
    assert metainfo.comment == "a comment"
    theirs = libtorrent.torrent_info(libtorrent.bdecode(blob))
    assert metainfo.piece_count == theirs.num_pieces()
    assert metainfo.total_bytes == theirs.total_size()


def test_v2_alone_is_refused_and_says_so(tmp_path: Path) -> None:
    blob, _ = _made_by_libtorrent(tmp_path, libtorrent.create_torrent.v2_only)
    with pytest.raises(MetainfoError, match=r"v2 torrent without v1 data.*hybrid"):
        parse_metainfo(blob)


# -- what is wrong ------------------------------------------------------------------------------------------


def without(info: dict[bytes, Any], key: bytes) -> dict[bytes, Any]:
    del info[key]
    return info


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (single(name=None), "no name"),
        (single(name=b""), "no name"),
        (single(name=5), "no name"),
        (single(piece_length=None), "piece length"),
        (single(piece_length=0), "piece length"),
        (single(piece_length=-1), "piece length"),
        (single(piece_length=b"x"), "piece length"),
        (single(piece_length=MAX_PIECE_LENGTH + 1), "piece length"),
        (single(pieces=None), "piece hashes"),
        (single(pieces=[]), "piece hashes"),
        (single(pieces=bytes(81)), "multiple of 20"),
        (single(pieces=bytes(60)), "do not match"),
        (single(pieces=bytes(100)), "do not match"),
        (single(pieces=b""), "do not match"),
        (single(length=0), "do not match"),
        (single(length=-1), "no length"),
        (single(length=b"1"), "no length"),
        (single(length=MAX_TOTAL_BYTES + 1), "no length"),
        (single(length=None), "lists no files"),
        (single(files=[file("a", 1)]), "both"),
        (multi(files=[]), "empty or not a list"),
        (multi(files={}), "empty or not a list"),
        (multi(files=[b"a"]), "file 1 is not a dictionary"),
        (multi(file("a", 1), without(file("b", 1), b"path")), "file 2 has no path"),
        (multi(file("a", 1) | {b"path": []}), "file 1 has no path"),
        (multi(file("a", 1) | {b"path": b"a"}), "file 1 has no path"),
        (multi(file("a", 1) | {b"path": [b"a", 1]}), "not made of strings"),
        (multi(file("a", 1) | {b"path": [b"a"] * (MAX_COMPONENTS + 1)}), "folders deep"),
        (multi(file("a", 1) | {b"path": [b"a" * 255] * 9}), f"longer than {MAX_PATH_BYTES}"),
        (multi(file("a", 1) | {b"path": [b"\xff" * 255] * 3}), f"longer than {MAX_PATH_BYTES}"),
        (multi(without(file("a", 1), b"length"), pieces=bytes(20)), "file 1 has no length"),
        (multi(file("a", -1), pieces=bytes(20)), "file 1 has no length"),
        (multi(file("a", 1), file("b", -1)), "file 2 has no length"),
        (multi(file("a", 1 << 60), file("b", 1 << 60), pieces=bytes(20)), "larger than any disk"),
        (multi(file("a", 0, attr=b"l")), "symbolic link"),
        (multi(file("a", 5, attr=b"p")), "nothing but padding"),
        ([], "no info dictionary"),
        (b"", "no info dictionary"),
    ],
)
def test_wrong_ones_are_refused_in_one_line(info: Any, words: str) -> None:
    assert words in refused(info)


@pytest.mark.parametrize(
    "blob",
    [b"i1e", b"le", b"de", b"4:spam", b"<html>", b"d4:infodee trailing", b"\0" * 100, b"d1:a1:b1:a1:ce"],
)
def test_what_is_no_torrent_is_refused(blob: bytes) -> None:
    with pytest.raises(MetainfoError, match=r"not a torrent|lists no files") as caught:
        parse_metainfo(blob)
    assert not isinstance(caught.value, MetainfoTruncated)


def test_every_truncation_may_still_be_written() -> None:
    blob = encode({b"announce": b"http://t/a", b"info": multi(), b"url-list": []})
    parse_metainfo(blob)
    for length in range(len(blob)):
        with pytest.raises(MetainfoTruncated):
            parse_metainfo(blob[:length])


# -- limits -------------------------------------------------------------------------------------------------


def test_size_is_bounded() -> None:
    with pytest.raises(MetainfoError, match="larger than 32 MiB"):
        parse_metainfo(b"d" + bytes(MAX_METAINFO_BYTES))


def test_depth_is_bounded() -> None:
    with pytest.raises(MetainfoError, match="nested deeper"):
        parse_metainfo(b"d4:info" + b"l" * 100_000)


@pytest.mark.parametrize("at_most", [1000, pytest.param(MAX_FILES, marks=pytest.mark.proof)])
def test_the_number_of_files_is_bounded(at_most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metainfo, "MAX_FILES", at_most)
    most = [{b"length": 0, b"path": [b"a", b"b"], b"attr": b"x"}] * at_most
    assert len(parsed(multi(*most)).files) == at_most
    assert f"more than {at_most} files" in refused(multi(*most, file("z", 0)))


def test_the_deepest_path() -> None:
    assert len(parsed(multi(file("/".join("a" * MAX_COMPONENTS), 1))).files[0].components) == MAX_COMPONENTS
    assert parsed(multi(file("/".join(["a" * 255] * 8), 1)))


def test_the_largest_piece_and_total() -> None:
    assert parsed(single(piece_length=MAX_PIECE_LENGTH, pieces=bytes(20))).piece_count == 1
    assert (
        parsed(
            single(length=1 << 40, piece_length=MAX_PIECE_LENGTH, pieces=bytes(20 * (1 << 12)))
        ).total_bytes
        == 1 << 40
    )


# -- what is only told --------------------------------------------------------------------------------------


def test_trackers_in_tiers_each_once() -> None:
    listed = [
        [b"http://a/x", b"HTTPS://b/x", b"http://a/x"],
        [b"http://a/x"],
        [],
        [b"udp://c:80"],
        b"http://d/x",
        7,
        [
            7,
            [b"http://nested/"],
            b"wss://e/",
            b"http://sp ace/",
            b"http://new\nline/",
            b"\xff",
            b" http://f/x ",
        ],
    ]
    metainfo = parsed(single(), announce__list=listed, announce=b"http://left.out/")
    assert metainfo.trackers == (
        ("http://a/x", "HTTPS://b/x"),
        ("udp://c:80",),
        ("http://d/x",),
        ("http://f/x",),
    )


@pytest.mark.parametrize("listed", [None, [], [[]], 5, b"http://no/", [[b"ftp://no/"]], {}])
def test_announce_counts_without_a_list(listed: Any) -> None:
    assert parsed(single(), announce__list=listed, announce=b"http://a/").trackers == (("http://a/",),)


@pytest.mark.parametrize(
    "told",
    [
        None, 5, [b"http://a/"], b"", b"magnet:", b"http://" + b"a" * MAX_URL_BYTES,
        b"http://[::1/", b"http://h:99999/", b"http://h:x/", b"http:///no-host", b"http://h:0/",
    ],
)  # fmt: skip
def test_no_tracker_is_fine(told: Any) -> None:
    assert parsed(single(), announce=told).trackers == ()


def test_trackers_and_seeds_are_bounded() -> None:
    urls = [b"http://t/%d" % number for number in range(1000)]
    metainfo = parsed(single(), announce__list=[[url] for url in urls], url__list=urls)
    assert sum(len(tier) for tier in metainfo.trackers) == MAX_TRACKERS
    assert len(metainfo.web_seeds) == MAX_WEB_SEEDS


@pytest.mark.parametrize(
    ("told", "seeds"),
    [
        (b"http://a/", ("http://a/",)),
        ([b"http://a/", b"https://b/", b"ftp://c/", b"http://a/", 5, b"x"], ("http://a/", "https://b/", "ftp://c/")),
        (b"", ()),
        (5, ()),
        (None, ()),
        ({}, ()),
    ],
)  # fmt: skip
def test_web_seeds(told: Any, seeds: tuple[str, ...]) -> None:
    assert parsed(single(), url__list=told).web_seeds == seeds


def test_comments_and_dates() -> None:
    metainfo = parsed(
        single(), comment=b"caf\xe9" + b"x" * 9000, created_by=b"me/1.0", creation_date=1_700_000_000
    )
    assert metainfo.comment is not None
    assert metainfo.comment.startswith("caf\ufffdxxx")
    assert len(metainfo.comment) == MAX_TEXT
    assert (metainfo.created_by, metainfo.creation_date) == ("me/1.0", 1_700_000_000)
    odd = parsed(single(), comment=5, created_by=[], creation_date=b"x")
    assert (odd.comment, odd.created_by, odd.creation_date) == (None, None, None)


@pytest.mark.parametrize(
    ("told", "date"), [(0, None), (-1, None), (1, 1), (MAX_DATE, MAX_DATE), (MAX_DATE + 1, None), (1 << 62, None)]
)  # fmt: skip
def test_dates_have_a_calendar(told: int, date: int | None) -> None:
    assert parsed(single(), creation_date=told).creation_date == date


# -- anything -----------------------------------------------------------------------------------------------

KEYS = [b"info", b"announce", b"announce-list", b"url-list", b"comment", b"creation date", b"name", b"name.utf-8",
        b"piece length", b"pieces", b"length", b"files", b"path", b"path.utf-8", b"attr", b"private", b"file tree",
        b"meta version"]  # fmt: skip
anything = st.recursive(
    st.integers(-(1 << 62), 1 << 62) | st.integers(0, 40) | st.binary(max_size=40) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


def _right_or_refused(blob: bytes) -> None:
    try:
        metainfo = parse_metainfo(blob)
    except MetainfoError as error:
        words = str(error)
    else:
        words = _right(metainfo, blob)
    assert words.isprintable()


def _right(metainfo: Metainfo, blob: bytes) -> str:
    assert metainfo.info_hash in {
        hashlib.sha1(blob[start:end]).digest() for start in _starts(blob) for end in range(start, len(blob))
    }
    assert metainfo.piece_count == -(-metainfo.total_bytes // metainfo.piece_length)
    assert metainfo.total_bytes == sum(one.length for one in metainfo.files)
    assert metainfo.multi_file or metainfo.files[0].components == ()
    assert metainfo.name
    metainfo.name.encode()
    for one in metainfo.files:
        "/".join(one.components).encode()
        assert one.length >= 0
    return ""


def _starts(blob: bytes) -> list[int]:
    found, at = [], blob.find(b"4:info")
    while at >= 0:
        found.append(at + 6)
        at = blob.find(b"4:info", at + 1)
    return found


templates: list[Callable[[], dict[bytes, Any]]] = [
    single,
    multi,
    lambda: multi(file("a", 5), file(".pad/3", PIECE - 5, attr=b"p"), file("b", 0), private=1),
]


@given(st.sampled_from(templates), st.data())
def test_bytes_changed_at_random(template: Callable[[], dict[bytes, Any]], data: st.DataObject) -> None:
    blob = bytearray(encode({b"announce": b"http://t/a", b"info": template(), b"url-list": b"http://s/"}))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(blob) - 1))
        cut = data.draw(st.integers(0, 3))
        blob[at : at + cut] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"e", b"i0e", b"0:", b"d", b"l"])
        )
    _right_or_refused(bytes(blob))


@given(
    st.sampled_from(templates), st.dictionaries(st.sampled_from(KEYS), anything, max_size=3), st.booleans()
)
def test_values_changed_at_random(
    template: Callable[[], dict[bytes, Any]], changes: dict[bytes, Any], inside: bool
) -> None:
    info = template()
    if inside and b"files" in info:
        info[b"files"][0] |= changes
    else:
        info |= changes
    _right_or_refused(encode({b"announce": b"http://t/a", b"info": info}))


@given(st.dictionaries(st.sampled_from(KEYS), anything, max_size=6))
def test_any_dictionary(told: dict[bytes, Any]) -> None:
    _right_or_refused(encode(told))
