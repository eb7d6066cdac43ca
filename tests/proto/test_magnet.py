"""Magnet links, from anybody."""

import base64
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import MagnetError
from bittern.proto.magnet import (
    MAX_MAGNET_BYTES,
    MAX_NAME,
    MAX_PARAMETERS,
    MAX_PEERS,
    Magnet,
    parse_magnet,
    with_peers,
)
from bittern.proto.metainfo import MAX_TRACKERS
from bittern.terms import InfoHash

HASH = InfoHash(bytes(range(20)))
XT = f"xt=urn:btih:{HASH.hex()}"


def test_a_link_as_sites_give_it() -> None:
    assert parse_magnet(
        f"magnet:?{XT}&dn=Some+Name%20%281%29&tr=udp%3A%2F%2Ft.example%3A1337%2Fannounce"
        "&tr=https://u.example/announce&x.pe=192.0.2.7:6881&x.pe=[2001:DB8::7]:51413&x.pe=Peer.Example:1"
        "&ws=https%3A%2F%2Fw.example%2Ff&so=0,2,4,6-8&xl=12345&as=whatever"
    ) == Magnet(
        info_hash=HASH,
        name="Some Name (1)",
        trackers=(("udp://t.example:1337/announce",), ("https://u.example/announce",)),
        peers=(("192.0.2.7", 6881), ("2001:db8::7", 51413), ("peer.example", 1)),
        web_seeds=("https://w.example/f",),
        select=((0, 0), (2, 2), (4, 4), (6, 8)),
    )


@pytest.mark.parametrize(
    "text",
    [
        HASH.hex(),
        HASH.hex().upper(),
        base64.b32encode(HASH).decode(),
        base64.b32encode(HASH).decode().lower(),
    ],
)
@pytest.mark.parametrize("scheme", ["magnet:?", "MAGNET:?", "  magnet:?"])
@pytest.mark.parametrize("key", ["xt", "XT", "xt.1"])
def test_the_shapes_of_an_info_hash(text: str, scheme: str, key: str) -> None:
    assert parse_magnet(f"{scheme}{key}=urn:btih:{text}") == Magnet(info_hash=HASH)
    assert parse_magnet(f"{scheme}{key}=urn%3Abtih%3A{text}\n") == Magnet(info_hash=HASH)


def test_of_a_hybrid_torrent_the_first_version_is_taken() -> None:
    both = f"magnet:?xt=urn:btmh:1220{'ab' * 32}&{XT}"
    assert parse_magnet(both).info_hash == HASH


def test_a_link_copied_out_of_a_page() -> None:
    assert parse_magnet(f"magnet:?{XT}&amp;dn=x&amp;tr=http://a/announce").trackers == (
        ("http://a/announce",),
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a magnet link"),
        ("http://example.org/x.torrent", "not a magnet link"),
        ("magnet:", "not a magnet link"),
        ("magnet:?", "names no torrent"),
        ("magnet:?dn=x", "names no torrent"),
        ("magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C", "something else"),
        (f"magnet:?xt=urn:btmh:1220{'ab' * 32}&dn=x", "BitTorrent v2 magnet (btmh) without a v1"),
        ("magnet:?xt=urn:btih:", "neither 40 hexadecimal"),
        ("magnet:?xt=urn:btih:" + "g" * 40, "neither 40 hexadecimal"),
        ("magnet:?xt=urn:btih:" + "1" * 32, "neither 40 hexadecimal"),
        ("magnet:?xt=urn:btih:" + "a" * 39, "neither 40 hexadecimal"),
        ("magnet:?xt=urn:btih:" + "é" * 40, "neither 40 hexadecimal"),
        (f"magnet:?{XT}&xt=urn:btih:{'ab' * 20}", "names two torrents"),
        (f"magnet:?{XT}&dn=" + "x" * MAX_MAGNET_BYTES, "longer than 64 KiB"),
        (f"magnet:?{XT}" + "&" * MAX_PARAMETERS, "more than 2000 parameters"),
    ],
)
def test_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(MagnetError) as refused:
        parse_magnet(text)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_only_told_is_left_out_when_it_makes_no_sense() -> None:
    assert parse_magnet(
        f"magnet:?{XT}&tr=&tr=wss://x/a&tr=http://&tr=http://a:99999/&tr=http://a b/&tr=javascript:x&tr=%ff"
        "&x.pe=&x.pe=1.2.3.4&x.pe=1.2.3.4:0&x.pe=1.2.3.4:65536&x.pe=1.2.3.999:1&x.pe=::1:5&x.pe=[::1:5"
        "&x.pe=[1.2.3.4]:1&x.pe=a/b:1&x.pe=-a:1&x.pe=a%00b:1&ws=file:///etc/passwd&so=1,x&dn=%00%07&dn=&so"
    ) == Magnet(info_hash=HASH)


@pytest.mark.parametrize("told", ["", "-", "1-", "-1", "3-2", "1,,2", "0x1", "150000", "1;2", "9" * 30])
def test_a_selection_that_makes_no_sense_selects_nothing(told: str) -> None:
    assert parse_magnet(f"magnet:?{XT}&so={told}").select == ()


def test_selections_are_put_in_order() -> None:
    assert parse_magnet(f"magnet:?{XT}&so=9,4-6,5-7,0&so=8").select == ((0, 0), (4, 9))


def test_what_one_link_may_hold_is_bounded() -> None:
    many = "".join(f"&tr=http://t{n}/a&x.pe=10.0.{n // 250}.{n % 250}:1&ws=http://w{n}/" for n in range(400))
    magnet = parse_magnet(f"magnet:?{XT}&dn={'n' * 999}{many}")
    assert len(magnet.trackers) == MAX_TRACKERS
    assert len(magnet.peers) == MAX_PEERS
    assert len(magnet.name) == MAX_NAME


def test_each_tracker_once() -> None:
    assert parse_magnet(f"magnet:?{XT}&tr=http://a/&tr=http%3A%2F%2Fa%2F").trackers == (("http://a/",),)


@given(st.text())
def test_any_text_is_a_magnet_or_refused(text: str) -> None:
    for one in (text, f"magnet:?{text}", f"magnet:?{XT}&{text}"):
        with suppress(MagnetError):
            assert len(parse_magnet(one).info_hash) == 20


HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){0,2}", fullmatch=True),
)


@given(
    info_hash=st.binary(min_size=20, max_size=20),
    base32=st.booleans(),
    name=st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=40),
    urls=st.lists(
        st.from_regex(r"(udp|http|https)://[a-z]{1,9}:[1-9][0-9]{0,3}/[!-~]{0,20}", fullmatch=True)
    ),
    peers=st.lists(st.tuples(HOSTS, st.integers(1, 65535)), max_size=MAX_PEERS),
    files=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9),
)
def test_what_was_packed_comes_out(
    info_hash: bytes,
    base32: bool,
    name: str,
    urls: list[str],
    peers: list[tuple[str, int]],
    files: list[tuple[int, int]],
) -> None:
    topic = base64.b32encode(info_hash).decode() if base32 else info_hash.hex()
    parts = [f"xt=urn:btih:{topic}", f"dn={quote(name, safe='')}"]
    parts += [f"tr={quote(url, safe='')}" for url in urls]
    parts += [f"x.pe=[{host}]:{port}" if ":" in host else f"x.pe={host}:{port}" for host, port in peers]
    wanted: set[int] = set()
    if files:
        parts.append("so=" + ",".join(f"{10 * n + a}-{10 * n + a + b}" for n, (a, b) in enumerate(files)))
        wanted = {10 * n + a + k for n, (a, b) in enumerate(files) for k in range(b + 1)}
    magnet = parse_magnet("magnet:?" + "&".join(parts))
    assert magnet.info_hash == info_hash
    assert magnet.name == name
    assert magnet.trackers == tuple((url,) for url in dict.fromkeys(urls))[:MAX_TRACKERS]
    assert magnet.peers == tuple(dict.fromkeys(peers))
    assert {n for first, last in magnet.select for n in range(first, last + 1)} == wanted
    ends = [-2, *(end for one in magnet.select for end in one)]
    assert all(first > before + 1 for before, first in zip(ends[::2], ends[1::2], strict=False))


def test_a_link_names_further_peers_as_far_as_it_may() -> None:
    link = f"magnet:?{XT}&x.pe=a.example:1"
    peers = [("a.example", 1), ("2001:db8::1", 2), ("192.0.2.1", 3)]
    assert parse_magnet(with_peers(link, peers)).peers == tuple(peers)
    assert with_peers(link, peers[:1]) == link
    many = with_peers(link, [("192.0.2.1", port) for port in range(1, 100)])
    assert len(parse_magnet(many).peers) == MAX_PEERS
    assert with_peers(many, [("192.0.2.2", 1)]) == many
    long = link + "&tr=" + "a" * (MAX_MAGNET_BYTES - len(link) - 10)
    assert with_peers(long, peers) == long
