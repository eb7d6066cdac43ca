"""Private torrents are their trackers' own (BEP 27): every packet that leaves the host is looked at."""

import base64
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote_from_bytes

from bittern.proto.bencode import decode
from bittern.proto.lsd import GROUP_V4, PORT, LocalAnnounce, pack_local, parse_local
from bittern.terms import InfoHash
from tests.fakes.bittern_process import Bittern
from tests.fakes.capture import TCP, UDP, Capture, Packet
from tests.fakes.clients import Libtorrent
from tests.fakes.lan import Host, lan, running
from tests.fakes.payloads import Payload, digest_of, make_payload
from tests.fakes.processes import wait_until
from tests.fakes.tracker_process import Tracker

LEECHER, SEEDER, TRACKER, STRANGER = range(4)
PROTOCOL = b"\x13BitTorrent protocol"


def spellings(payload: Payload) -> list[bytes]:
    """However an info hash may be written."""
    raw = bytes.fromhex(payload.info_hash)
    hexed = raw.hex().encode()
    return [raw, hexed, hexed.upper(), base64.b32encode(raw), quote_from_bytes(raw, safe="").encode()]


def names(packet: Packet, payload: Payload) -> bool:
    return any(one in packet.payload for one in spellings(payload))


def queries(packets: list[Packet]) -> list[bytes]:
    """The methods of what was asked of the DHT, and its targets."""
    told = [decode(one.payload) for one in packets if one.payload[:1] == b"d"]
    return [one[b"q"] + b" " + one[b"a"].get(b"info_hash", b"") for one in told if one.get(b"y") == b"q"]


def streams_of(capture: Capture, payload: Payload) -> dict[tuple[str, int], bytes]:
    """What peers of that torrent were told, by who they are."""
    raw = bytes.fromhex(payload.info_hash)
    return {
        to: stream
        for (_, to), stream in capture.streams().items()
        if stream.startswith(PROTOCOL) and stream[28:48] == raw
    }


def call_out(stranger: Host, port: int, *payloads: Payload) -> None:
    """As a neighbour who has them all."""
    hashes = tuple(InfoHash(bytes.fromhex(one.info_hash)) for one in payloads)
    with stranger, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(stranger.v4))
        out.sendto(pack_local(GROUP_V4, LocalAnnounce(port, hashes)), (GROUP_V4, PORT))


def test_nothing_leaks(tmp_path: Path) -> None:
    by_udp, by_http, public = payloads = [
        make_payload(tmp_path / "source", name, 700_000, 65536, private=name != "public")
        for name in ("udp", "http", "public")
    ]
    with ExitStack() as stack:
        _, hosts = stack.enter_context(lan(4))
        with hosts[TRACKER]:
            hashes = [one.info_hash for one in payloads]
            tracker = Tracker(tmp_path / "tracker", *hashes, host=hosts[TRACKER].v4)
            stack.enter_context(tracker)
        urls = {"udp": tracker.udp_url, "http": tracker.url, "public": tracker.url}
        with hosts[SEEDER]:
            seeder = Libtorrent(tmp_path / "seeder")
            seeder.host = hosts[SEEDER].v4
            stack.enter_context(seeder)
        seeder.dht()
        seeder.lsd()
        for payload in payloads:
            seeder.add(payload.torrent(tmp_path, urls[payload.name]), payload.folder)
        with hosts[TRACKER]:
            for payload in payloads:
                tracker.wait_for(payload.info_hash, seeds=1)
        with hosts[STRANGER]:
            door = stack.enter_context(socket.create_server((hosts[STRANGER].v4, 0)))
        door.settimeout(300)

        capture = stack.enter_context(Capture(hosts[LEECHER]))
        network = {
            "dht": True,
            "dht_bootstrap": [f"{seeder.host}:{seeder.port}"],
            "lsd": True,
            "pex": True,
            "listen": ["0.0.0.0", "::"],
        }
        bittern = Bittern(tmp_path / "bittern", network=network)

        def asked_of_dht() -> list[bytes]:
            return queries(capture.sent(UDP))

        with running(bittern, hosts[LEECHER]):
            # only private ones: there is nothing to tell anybody
            for payload in (by_udp, by_http):
                bittern.give(payload, urls[payload.name])
            bittern.wait("torrent.completed", 300, count=2)
            wait_until(asked_of_dht, 300, "the DHT")
            call_out(hosts[STRANGER], door.getsockname()[1], by_udp, by_http)
            alone = capture.mark()
            # and one that all may hear of
            bittern.give(public, urls["public"])
            bittern.wait("torrent.completed", 300, count=3)
            target = bytes.fromhex(public.info_hash)
            wait_until(lambda: b"announce_peer " + target in asked_of_dht(), 300, "an announce in the DHT")
            wait_until(
                lambda: any(names(one, public) for one in capture.sent(UDP) if one.to[1] == PORT),
                300,
                "an announce to neighbours",
            )
            call_out(hosts[STRANGER], door.getsockname()[1], by_udp, by_http, public)
            with door.accept()[0] as peer:
                peer.settimeout(300)
                hello = b""
                while len(hello) < 48 and (more := peer.recv(48 - len(hello))):
                    hello += more
            assert hello.startswith(PROTOCOL)
            assert hello[28:] == target
            for payload in payloads:
                assert digest_of(bittern.downloads / payload.name) == payload.digest

        at_tracker = (tracker.host, tracker.port)
        for payload in (by_udp, by_http):
            # its name goes to its tracker, and to the peer that the tracker named
            allowed = {at_tracker, (seeder.host, seeder.port)}
            told = {one.to for one in capture.sent(TCP) + capture.sent(UDP) if names(one, payload)}
            assert told <= allowed, told
            [(peer_address, stream)] = streams_of(capture, payload).items()
            assert peer_address == (seeder.host, seeder.port)
            assert not stream[27] & 1, "it says that it has a DHT node"
            assert all(word not in stream for word in (b"ut_pex", b"ut_metadata"))
        datagrams = capture.sent(UDP)
        assert {one.to for one in datagrams if names(one, by_udp)} == {at_tracker}
        assert not [one for one in datagrams if names(one, by_http)]
        # before there was a public one, neighbours heard nothing, and nobody was looked for
        early = capture.sent(UDP, until=alone)
        assert not [one for one in early if one.to[1] == PORT]
        assert {one.partition(b" ")[0] for one in queries(early)} <= {b"ping", b"find_node"}
        # and all of this would have been seen
        [stream] = (
            one for to, one in streams_of(capture, public).items() if to == (seeder.host, seeder.port)
        )
        assert stream[27] & 1
        assert b"ut_pex" in stream
        local = [parse_local(one.payload) for one in datagrams if one.to[1] == PORT]
        assert {one.info_hashes for one in local if one} == {(InfoHash(target),)}
