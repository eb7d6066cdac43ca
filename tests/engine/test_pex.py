"""Peer exchange in the engine: who is told of whom, and whom we dial because a peer said so (BEP 11, 27)."""

import random
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bittern.engine.events import Completed
from bittern.engine.extensions import HANDSHAKE, Extensions
from bittern.engine.pex import LONGEST_BYTES, NAMED_WHILE_SEEDING, NUMBER, PeerExchange
from bittern.errors import ProtocolError
from bittern.policy import exchange
from bittern.policy.exchange import FAILED_AT_MOST, FIRST_S, HEARD_BURST, INTERVAL_S, UNTRIED_AT_MOST
from bittern.policy.roster import Roster, Source
from bittern.proto import messages as m
from bittern.proto.bencode import encode
from bittern.proto.extension import UT_PEX, parse_extension_handshake
from bittern.proto.handshake import HANDSHAKE_BYTES, parse_handshake
from bittern.proto.pex import REACHABLE, SEED, PexMessage, pack_pex, parse_pex
from bittern.terms import Address
from tests.fakes.engine import Engine, running
from tests.fakes.partner import FakePartner
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent

KEYS = st.sampled_from([b"added", b"added.f", b"added6", b"added6.f", b"dropped", b"dropped6"])
THEIRS = 55
SPEAKS = {UT_PEX: THEIRS}


def at(number: int, port: int = 6881) -> Address:
    return Address(f"192.0.2.{number}", port)


class Rig:
    """A swarm, as peer exchange sees it, with a clock of the test's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.torrent = SimpleNamespace(complete=False)
        self.roster = Roster(random.Random(1))
        self.peers: list[FakePartner] = []
        self.unreachable: set[str] = set()
        self.public = True
        self.exchange = PeerExchange(self, lambda: self.now)  # type: ignore[arg-type]  # a torrent of the test's
        home = SimpleNamespace(client_name="x", metadata_bytes=None, listening_port=1)
        self.extensions = Extensions(home, [self.exchange])

    def reaches(self, host: str) -> bool:
        return host not in self.unreachable

    def add_addresses(self, addresses: Iterable[Address], source: Source, told_by: str) -> None:
        assert source is Source.PEX
        for address in addresses:
            self.roster.add(address, source, told_by)

    def join(self, partner: FakePartner) -> FakePartner:
        self.peers.append(partner)
        if partner.spoken.numbers:
            self.extensions.heard(partner, HANDSHAKE, encode({b"m": {b"ut_pex": THEIRS}}), self.now)
        return partner

    def leave(self, partner: FakePartner) -> None:
        self.peers.remove(partner)
        self.extensions.left(partner)

    def after(self, pause_s: float) -> None:
        self.now += pause_s
        self.extensions.tick(self.now)

    def hears(self, partner: FakePartner, *added: Address, flags: int = 0) -> list[Address]:
        """Who is new in the roster."""
        before = set(self.roster)
        self.extensions.heard(partner, NUMBER, pack_pex(dict.fromkeys(added, flags), ()), self.now)
        return [address for address in self.roster if address not in before]


def told(partner: FakePartner) -> list[PexMessage]:
    """Takes what it was told since the last time."""
    messages, partner.told = partner.told, []
    assert all(blob[4:6] == bytes([m.EXTENDED_ID, THEIRS]) for blob in messages)
    return [parse_pex(blob[6:]) for blob in messages]


def test_while_nobody_comes_or_goes_nobody_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    first, second = (rig.join(FakePartner(at(n), outbound=True, numbers=SPEAKS)) for n in (1, 2))
    rig.after(FIRST_S)
    assert told(first)
    assert told(second)
    looks: list[str] = []

    def worth(host: str, teller: str) -> bool:
        looks.append(host)
        return True

    monkeypatch.setattr("bittern.engine.pex.worth_telling", worth)
    rig.after(INTERVAL_S)
    assert looks
    looks.clear()
    for _ in range(5):
        rig.after(1)
    assert not looks
    third = rig.join(FakePartner(at(3), outbound=True, numbers=SPEAKS))
    rig.after(1)
    assert told(first) == told(second) == [PexMessage(added=((at(3), REACHABLE),))]
    rig.leave(third)
    rig.after(INTERVAL_S)
    assert told(first) == told(second) == [PexMessage(dropped=(at(3),))]


def test_peers_are_told_of_each_other_and_of_nobody_who_cannot_be_dialled() -> None:
    rig = Rig()
    dialled = rig.join(FakePartner(at(1), outbound=True, numbers=SPEAKS))
    came = rig.join(FakePartner(at(2, 50_001), listens_on=at(2), numbers=SPEAKS))
    came.is_seed = True
    mute = rig.join(FakePartner(at(3, 50_002)))
    rig.after(FIRST_S - 0.5)
    assert told(dialled) == []
    rig.after(0.5)
    assert told(dialled) == [PexMessage(added=((at(2), SEED),))]
    assert told(came) == [PexMessage(added=((at(1), REACHABLE),))]
    assert mute.told == []
    late = rig.join(FakePartner(at(4), outbound=True, numbers=SPEAKS))
    rig.leave(came)
    rig.after(INTERVAL_S - 1)
    assert told(dialled) == []
    assert [one.dropped for one in told(late)] == [()]
    rig.after(1)
    assert told(dialled) == [PexMessage(added=((at(4), REACHABLE),), dropped=(at(2),))]
    rig.after(INTERVAL_S)
    assert told(dialled) == []


def test_who_speaks_it_no_more_is_told_nothing_and_hears_all_when_he_does_again() -> None:
    rig = Rig()
    one = rig.join(FakePartner(at(1), outbound=True, numbers=SPEAKS))
    rig.join(FakePartner(at(2), outbound=True))
    rig.extensions.heard(one, HANDSHAKE, encode({b"m": {b"ut_pex": 0}}), rig.now)
    rig.after(FIRST_S)
    assert told(one) == []
    rig.extensions.heard(one, HANDSHAKE, encode({b"m": {b"ut_pex": THEIRS}}), rig.now)
    rig.after(1)
    assert told(one) == [PexMessage(added=((at(2), REACHABLE),))]


def test_neighbours_are_no_news_for_the_world() -> None:
    rig = Rig()
    neighbour = rig.join(FakePartner(Address("192.168.1.2", 9), outbound=True, numbers=SPEAKS))
    stranger = rig.join(FakePartner(at(1), outbound=True, numbers=SPEAKS))
    rig.after(FIRST_S)
    assert told(stranger) == []
    assert told(neighbour) == [PexMessage(added=((at(1), REACHABLE),))]


def test_who_is_named_is_known() -> None:
    rig = Rig()
    rig.unreachable.add(at(9).host)
    one = rig.join(FakePartner(at(1), outbound=True, numbers=SPEAKS))
    rig.join(FakePartner(at(2, 50_000), listens_on=at(2)))
    rig.roster.add(at(3, 80), Source.TRACKER)
    found = rig.hears(one, at(1, 7), at(2), at(3, 81), at(4), at(4, 99), at(9), Address("10.0.0.1", 5))
    assert found == [at(4)]


def test_who_tells_too_often_or_before_he_said_who_he_is_is_not_heard() -> None:
    rig = Rig()
    one = rig.join(FakePartner(at(1), outbound=True))
    assert rig.hears(one, at(2)) == []
    rig.extensions.heard(one, HANDSHAKE, encode({b"m": {b"ut_pex": THEIRS}}), rig.now)
    found = [bool(rig.hears(one, at(10 + turn))) for turn in range(20)]
    assert found.count(True) == HEARD_BURST
    # a connection made anew starts anew, so the roster bounds what its host may name in all


def test_a_complete_torrent_takes_few_and_no_seeds() -> None:
    rig = Rig()
    rig.torrent.complete = True
    one = rig.join(FakePartner(at(1), outbound=True, numbers=SPEAKS))
    assert rig.hears(one, at(2), flags=SEED) == []
    assert rig.hears(one, at(3)) == [at(3)]
    for number in range(NAMED_WHILE_SEEDING):
        rig.roster.add(at(100 + number), Source.TRACKER)
    assert rig.hears(one, at(4)) == []


def test_what_is_garbage_ends_the_connection() -> None:
    rig = Rig()
    one = rig.join(FakePartner(at(1), outbound=True, numbers=SPEAKS))
    with pytest.raises(ProtocolError):
        rig.extensions.heard(one, NUMBER, b"garbage", rig.now)
    with pytest.raises(ProtocolError):
        rig.extensions.heard(one, NUMBER, bytes(LONGEST_BYTES + 1), rig.now)


def test_liars_who_come_back_again_and_again_fill_nothing() -> None:
    rig, rng = Rig(), random.Random(2)
    for number in range(50):
        # each time from another address of his network
        liar = rig.join(FakePartner(Address(f"2001:db8::{number:x}", 50_000), numbers=SPEAKS))
        for _ in range(5):
            victims = [Address(f"203.0.{rng.randrange(256)}.{rng.randrange(256)}", 80) for _ in range(50)]
            rig.hears(liar, *victims)
        rig.leave(liar)
    assert len(rig.roster) == UNTRIED_AT_MOST
    for address in rig.roster.due(0.0, FAILED_AT_MOST):
        rig.roster.failed(address, 0.0)
    assert rig.hears(rig.join(FakePartner(Address("2001:db8::ffff", 1), numbers=SPEAKS)), at(5)) == []
    assert rig.hears(rig.join(FakePartner(at(1), numbers=SPEAKS)), at(5)) == [at(5)]


@given(st.lists(st.binary(max_size=60) | st.builds(encode, st.dictionaries(KEYS, st.binary(max_size=120)))))
def test_whatever_a_peer_sends_it_costs_itself_only(payloads: list[bytes]) -> None:
    rig = Rig()
    one = rig.join(FakePartner(at(1), outbound=True, numbers=SPEAKS))
    other = rig.join(FakePartner(at(2), outbound=True, numbers=SPEAKS))
    for payload in payloads:
        rig.after(INTERVAL_S)
        try:
            rig.extensions.heard(one, NUMBER, payload, rig.now)
        except ProtocolError:
            rig.leave(one)
            break
    assert rig.hears(other, at(9)) == [at(9)] or at(9) in rig.roster


# -- with sockets ---------------------------------------------------------------------------------------------


async def introduce(peer: ScriptedPeer, port: int) -> None:
    told = {b"m": {b"ut_pex": THEIRS}, b"p": port}
    await peer.say(m.pack_extended(HANDSHAKE, encode(told)))


async def seeding(engine: Engine, made: Made) -> None:
    made.write(engine.downloads)
    await engine.add(made)
    await engine.until(Completed)


async def test_two_who_know_only_us_hear_of_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "FIRST_S", 0.0)
    made = make_torrent(size=50_000)
    async with running(tmp_path) as engine:
        await seeding(engine, made)
        async with (
            connected(engine.address, made.info_hash, source="127.0.0.2") as one,
            connected(engine.address, made.info_hash, source="127.0.0.3", seed=1) as other,
        ):
            for number, peer in enumerate((one, other), 2):
                hello = parse_extension_handshake((await peer.hear_until("extended"))[1:])
                assert hello.extensions[UT_PEX] == NUMBER
                await introduce(peer, 7000 + number)
            for number, peer in enumerate((one, other), 2):
                body = await peer.hear_until("extended", 200)  # what is new comes once a minute
                assert body[0] == THEIRS
                ((address, flags),) = parse_pex(body[1:]).added
                assert address == Address(f"127.0.0.{5 - number}", 7005 - number)
                assert flags == 0


async def test_a_peer_is_dialled_because_another_named_it(tmp_path: Path) -> None:
    made = make_torrent(size=50_000)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.4")
    async with listener, running(tmp_path) as engine:
        await engine.add(made)
        await engine.until_true(lambda: engine.session.torrents[made.info_hash].reachable, "checked")
        async with connected(engine.address, made.info_hash) as peer:
            await introduce(peer, 7000)
            named = Address(*listener.socket.getsockname()[:2])
            await peer.say(m.pack_extended(NUMBER, pack_pex({named: 0}, ())))
            with trio.fail_after(90):
                stream = await listener.accept()
                async with stream:
                    heard = b""
                    while len(heard) < HANDSHAKE_BYTES:
                        heard += await stream.receive_some(HANDSHAKE_BYTES - len(heard))
            assert parse_handshake(heard).info_hash == made.info_hash


@pytest.mark.parametrize("on", [True, False])
async def test_a_private_torrent_or_none_at_all_offers_nothing_and_hears_nothing(
    tmp_path: Path, on: bool
) -> None:
    made = make_torrent(private=on)
    async with running(tmp_path, pex=on) as engine:
        await engine.add(made)
        await engine.until_true(lambda: engine.session.torrents[made.info_hash].reachable, "checked")
        async with connected(engine.address, made.info_hash) as peer:
            hello = parse_extension_handshake((await peer.hear_until("extended"))[1:])
            assert UT_PEX not in hello.extensions
            await introduce(peer, 7000)
            # also not what would be refused
            await peer.say(m.pack_extended(NUMBER, pack_pex({Address("127.0.0.5", 9): 0}, ())))
            await peer.say(m.pack_extended(NUMBER, b"garbage"), m.pack_requests([(0, 0, 1)]))
            await peer.hear_until("reject")
            (swarm,) = engine.session.swarms.live.values()
            assert len(swarm.roster) == 0
