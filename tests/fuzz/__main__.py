"""Every parser under mutated input, for as long as asked: python -m tests.fuzz --seconds 60 [--seed N]

The laws: a parser gives a value or its own error and nothing else; a decoder gives the same for any cuts.
"""

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable

from bittern.disk.paths import plan_paths
from bittern.disk.resume import RecordCorrupt, load_record
from bittern.errors import (
    BencodeError,
    HandshakeError,
    MagnetError,
    MetainfoError,
    ProtocolError,
    StateError,
    TrackerError,
)
from bittern.proto import messages as m
from bittern.proto.announce import parse_announce_response, parse_scrape_response
from bittern.proto.bencode import decode, encode
from bittern.proto.bitfield import Bitfield
from bittern.proto.decoder import Decoder
from bittern.proto.extension import pack_extension_handshake, parse_extension_handshake
from bittern.proto.handshake import parse_handshake
from bittern.proto.krpc import Method, Query, pack_query, pack_response, parse_krpc
from bittern.proto.layout import Layout
from bittern.proto.magnet import parse_magnet
from bittern.proto.metadata import pack_metadata_piece, parse_metadata_message
from bittern.proto.metainfo import parse_metainfo
from bittern.proto.pex import pack_pex, parse_pex
from bittern.proto.udp_announce import parse_announce, parse_connect, parse_scrape
from bittern.terms import Address, NodeId
from tests.fakes.torrents import make_torrent

PIECES = 40


class Sink:
    """Keeps what lands."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self._view = memoryview(bytearray(16384))

    def place(self, index: int, begin: int, length: int) -> memoryview | None:
        return None if index % 3 == 0 else self._view[:length]

    def landed(self, index: int, begin: int, length: int) -> None:
        self.heard.append((index, begin, bytes(self._view[:length])))


def hear(blob: bytes, cuts: list[int]) -> tuple[list[object], str]:
    sink, error = Sink(), ""
    decoder = Decoder(sink, piece_count=PIECES)
    for start, end in zip([0, *cuts], [*cuts, len(blob)], strict=True):
        try:
            sink.heard += decoder.feed(memoryview(blob)[start:end])
        except ProtocolError:
            error = "refused"
            break
    return sink.heard, error


def wire(blob: bytes, rng: random.Random) -> None:
    # A header at the very end may be judged early or late; with keep-alives behind it, it is judged in any case.
    blob += bytes(64)
    whole, refused = hear(blob, [])
    cut, refused_too = hear(blob, sorted(rng.randrange(len(blob) + 1) for _ in range(5)))
    assert refused == refused_too
    # what was complete before the fault may be told by one cut and not by the other, but never differently
    blocks = [one for one in whole if isinstance(one, tuple) and not hasattr(one, "_fields")]
    others = [one for one in cut if isinstance(one, tuple) and not hasattr(one, "_fields")]
    shorter = min(len(blocks), len(others))
    assert blocks[:shorter] == others[:shorter]
    if not refused:
        assert sorted(map(repr, whole)) == sorted(map(repr, cut))


def metainfo(blob: bytes, _: random.Random) -> None:
    made = parse_metainfo(blob)
    Layout.of(made)
    for path in plan_paths(made):
        assert path is None or not {"", ".", ".."} & set(path.split("/"))


def from_udp_tracker(blob: bytes, rng: random.Random) -> None:
    rng.choice(
        [
            parse_connect,
            lambda told: parse_announce(told, v6=False),
            lambda told: parse_announce(told, v6=True),
            lambda told: parse_scrape(told, 2),
        ]
    )(blob)


def bencode(blob: bytes, _: random.Random) -> None:
    value = decode(blob)
    assert decode(encode(value)) == value


def dht(blob: bytes, _: random.Random) -> None:
    heard = parse_krpc(blob)
    if isinstance(heard, Query):
        parse_krpc(pack_query(heard))


def seeds() -> list[
    tuple[Callable[[bytes, random.Random], object], type[Exception] | tuple[type[Exception], ...], bytes]
]:
    one = make_torrent(size=100_000, trackers=[["http://a/announce"]])
    many = make_torrent("many", files=[(f"d/{n}", 999 * n) for n in range(20)])
    talk = (
        m.pack_bitfield(Bitfield.full(PIECES).to_bytes())
        + m.UNCHOKE
        + m.pack_requests([(1, 0, 16384), (2, 0, 16384)])
        + m.PIECE_HEADER.pack(9 + 300, m.PIECE_ID, 1, 0)
        + bytes(300)
        + m.pack_extended(0, pack_extension_handshake(client="x", port=1, reqq=9, your_ip="1.2.3.4"))
        + m.KEEP_ALIVE
        + m.pack_have(3)
    )
    answer = encode(
        {b"interval": 1800, b"peers": b"\x7f\0\0\1\x1a\xe1" * 9, b"peers6": bytes(36), b"complete": 4}
    )
    counts = encode({b"files": {one.info_hash: {b"complete": 1, b"incomplete": 2}}})
    extension = pack_extension_handshake(
        client="x", port=1, reqq=9, your_ip="1.2.3.4", extensions={"ut_pex": 1}
    )
    node = NodeId(bytes(range(20)))
    asked = Query(b"aa", Method.ANNOUNCE_PEER, node, node, b"token", 6881, implied_port=True, seed=True)
    nodes = (node + bytes([9, 8, 7, 6, 5, 4])) * 3
    told = pack_response(b"aa", node, seen_as=bytes(6), nodes4=nodes, token=b"t", values=[nodes[20:26]] * 5)
    return [
        (dht, ProtocolError, pack_query(asked)),
        (dht, ProtocolError, told),
        (metainfo, MetainfoError, one.blob),
        (metainfo, MetainfoError, many.blob),
        (bencode, BencodeError, many.blob[:400]),
        (wire, ProtocolError, talk),
        (lambda blob, _: parse_announce_response(blob), TrackerError, answer),
        (lambda blob, _: parse_scrape_response(blob, one.info_hash), TrackerError, counts),
        (from_udp_tracker, TrackerError, b"\0\0\0\1" + bytes(range(64))),
        (from_udp_tracker, TrackerError, b"\0\0\0\3" + bytes(4) + b"not today"),
        (lambda blob, _: parse_extension_handshake(blob), ProtocolError, extension),
        (
            lambda blob, _: parse_magnet(blob.decode("utf-8", "replace")),
            MagnetError,
            b"magnet:?xt=urn:btih:" + b"ab" * 20 + b"&tr=udp%3A%2F%2Fa:1&x.pe=[::1]:9&so=1,3-5&dn=a+b",
        ),
        (
            lambda blob, _: parse_metadata_message(blob),
            ProtocolError,
            pack_metadata_piece(1, 20_000, b"d6:lengthi9ee"),
        ),
        (
            lambda blob, _: parse_pex(blob),
            ProtocolError,
            pack_pex({Address("192.0.2.7", 9): 2, Address("2001:db8::7", 9): 16}, [Address("192.0.2.8", 9)]),
        ),
        (lambda blob, _: parse_handshake(blob), HandshakeError, b"\x13BitTorrent protocol" + bytes(48)),
        (
            lambda blob, _: load_record(blob),
            (RecordCorrupt, StateError),
            b'format = 1\nname = "x"\nhave = ""\n',
        ),
    ]


def mutate(blob: bytes, rng: random.Random) -> bytes:
    made = bytearray(blob)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(5):
            case 0 if made:
                made[at % len(made)] = rng.randrange(256)
            case 1:
                made[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del made[at : at + rng.randrange(1, 30)]
            case 3:
                made[at:at] = rng.choice(
                    [b"d", b"l", b"e", b"i", b"i-1e", b"0:", b"99999999999:", b"\xff\xff\xff\xff"]
                )
            case _:
                other = rng.randrange(len(made) + 1)
                made[at:at] = made[other : other + rng.randrange(1, 40)]
    return bytes(made)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    asked = options.parse_args()
    rng = random.Random(asked.seed)
    targets = seeds()
    deadline = time.monotonic() + asked.seconds
    tries = accepted = 0
    while time.monotonic() < deadline:
        parse, refusal, seed = rng.choice(targets)
        blob = mutate(seed, rng)
        tries += 1
        try:
            parse(blob, rng)
            accepted += 1
        except refusal:
            pass
        except Exception:  # noqa: BLE001 — finding what nobody expected is the point
            traceback.print_exc()
            print(f"seed {asked.seed}, try {tries}, input {blob!r}")
            return 1
    print(f"seed {asked.seed}: {tries} inputs, {accepted} of them accepted, no fault")
    return 0


if __name__ == "__main__":
    sys.exit(main())
