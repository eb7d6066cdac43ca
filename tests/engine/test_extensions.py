"""The extension protocol's numbers, bounds and hand-overs (BEP 10)."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bittern.engine.events import Completed
from bittern.engine.extensions import (
    HANDSHAKE,
    HANDSHAKE_BYTES,
    SPOKEN_AT_MOST,
    UNASKED_BURST,
    UNASKED_PER_S,
    Extension,
    Extensions,
    Partner,
)
from bittern.errors import ProtocolError
from bittern.proto import messages as m
from bittern.proto.bencode import encode
from bittern.proto.extension import UT_METADATA, ExtensionHandshake, parse_extension_handshake
from bittern.terms import Address
from tests.fakes.engine import running
from tests.fakes.partner import FakePartner
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


class Echo:
    """Hears all, and was waiting for what begins with an exclamation mark."""

    name = "xx_echo"
    number = 7
    longest_bytes = 100

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.introduced: list[ExtensionHandshake] = []
        self.gone: list[Partner] = []

    def met(self, partner: Partner, told: ExtensionHandshake) -> None:
        self.introduced.append(told)

    def heard(self, partner: Partner, payload: bytes) -> bool:
        self.got.append(payload)
        return payload.startswith(b"!")

    def left(self, partner: Partner) -> None:
        self.gone.append(partner)

    def tick(self, now: float) -> None:
        pass


def extensions(*spoken: Extension, metadata_bytes: int | None = 321) -> Extensions:
    home = SimpleNamespace(client_name="bittern test", metadata_bytes=metadata_bytes, listening_port=1729)
    return Extensions(home, spoken)


def shake(on: Extensions, partner: FakePartner, told: Any, now: float = 0.0) -> None:
    assert not on.heard(partner, HANDSHAKE, encode(told), now)


def test_the_greeting_offers_what_is_spoken() -> None:
    blob = extensions(Echo()).greeting(FakePartner())
    assert blob[4:6] == bytes([m.EXTENDED_ID, HANDSHAKE])
    told = parse_extension_handshake(blob[6:])
    assert told.extensions == {"xx_echo": 7}
    assert (told.client, told.port, told.your_ip) == ("bittern test", 1729, "192.0.2.7")
    assert told.metadata_size is None


def test_the_size_of_the_metadata_is_told_where_it_can_be_had() -> None:
    echo = Echo()
    echo.name = UT_METADATA
    told = parse_extension_handshake(extensions(echo).greeting(FakePartner())[6:])
    assert told.metadata_size == 321


def test_who_does_not_speak_it_is_not_greeted() -> None:
    assert extensions(Echo()).greeting(FakePartner(extended=False)) == b""


def test_messages_go_by_the_numbers_of_whom_they_are_for() -> None:
    echo, partner = Echo(), FakePartner()
    on = extensions(echo)
    assert not on.say(partner, echo, b"hello")
    shake(on, partner, {b"m": {b"xx_echo": 33}})
    assert on.say(partner, echo, b"hello")
    assert partner.told == [m.pack_extended(33, b"hello")]
    # ours is 7; what goes by any other number is not for us
    assert not on.heard(partner, 33, b"lost", 0.0)
    on.heard(partner, 7, b"found", 0.0)
    assert echo.got == [b"found"]


def test_later_handshakes_tell_changes_only() -> None:
    echo, partner = Echo(), FakePartner()
    on = extensions(echo)
    shake(on, partner, {b"m": {b"xx_echo": 33, b"other": 4}, b"v": b"one", b"p": 500})
    shake(on, partner, {b"upload_only": 1})
    shake(on, partner, {b"m": {b"other": 5}})
    assert partner.spoken.upload_only
    assert partner.spoken.numbers == {"xx_echo": 33, "other": 5}
    assert partner.client == "one"
    assert partner.listens_on == Address("192.0.2.7", 500)
    assert len(echo.introduced) == 3
    shake(on, partner, {b"m": {b"xx_echo": 0}, b"upload_only": 0})
    assert not on.say(partner, echo, b"hello")
    assert len(echo.introduced) == 3
    assert not partner.spoken.upload_only


def test_where_we_dialled_it_a_peer_listens_whatever_it_says() -> None:
    partner = FakePartner(outbound=True)
    shake(extensions(), partner, {b"p": 500})
    assert partner.listens_on == partner.address


def test_what_a_peer_sees_of_us_is_heard() -> None:
    seen: list[tuple[Address, str]] = []
    home = SimpleNamespace(client_name="x", metadata_bytes=None, listening_port=1)
    partner = FakePartner()
    on = Extensions(home, (), lambda voter, host: seen.append((voter, host)))
    shake(on, partner, {b"yourip": bytes([203, 0, 113, 9])})
    shake(on, partner, {b"yourip": b"odd"})
    assert seen == [(partner.address, "203.0.113.9")]


def test_names_are_bounded_over_all_handshakes() -> None:
    on, partner = extensions(), FakePartner()
    for turn in range(10):
        shake(on, partner, {b"m": {b"%d %d" % (turn, number): 1 for number in range(60)}})
    assert len(partner.spoken.numbers) == SPOKEN_AT_MOST


@pytest.mark.parametrize(("number", "longest"), [(HANDSHAKE, HANDSHAKE_BYTES), (7, Echo.longest_bytes)])
def test_who_sends_too_much_goes(number: int, longest: int) -> None:
    on, partner = extensions(Echo()), FakePartner()
    on.heard(partner, number, encode({b"v": b"x"}), 0.0)
    with pytest.raises(ProtocolError):
        on.heard(partner, number, bytes(longest + 1), 0.0)


def test_what_nobody_speaks_may_be_of_any_length() -> None:
    assert not extensions(Echo()).heard(FakePartner(), 9, bytes(100_000), 0.0)


def test_more_than_so_many_messages_are_not_heard_but_for_those_that_were_asked_for() -> None:
    echo, partner = Echo(), FakePartner()
    on = extensions(echo)
    for _ in range(1000):
        assert on.heard(partner, 7, b"!", 0.0)
    assert len(echo.got) == 1000
    for _ in range(1000):
        on.heard(partner, 7, b"?", 0.0)
    assert len(echo.got) == 1000 + UNASKED_BURST
    for second in range(60):
        for _ in range(100):
            on.heard(partner, 7, b"?", float(second))
    assert len(echo.got) <= 1000 + UNASKED_BURST + 60 * UNASKED_PER_S


def test_handshakes_without_end_cost_no_more() -> None:
    echo, partner = Echo(), FakePartner()
    on = extensions(echo)
    for _ in range(1000):
        shake(on, partner, {b"m": {b"xx_echo": 3}})
    assert len(echo.introduced) == UNASKED_BURST


def test_all_hear_that_somebody_left() -> None:
    echo, partner = Echo(), FakePartner()
    extensions(echo).left(partner)
    assert echo.gone == [partner]


async def test_a_peer_that_tells_of_itself_and_goes_on_talking(tmp_path: Path) -> None:
    made = make_torrent(size=50_000)
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        async with connected(engine.address, made.info_hash) as peer:
            told = parse_extension_handshake((await peer.hear_until("extended"))[1:])
            assert (told.port, told.your_ip) == (engine.listener.port, "127.0.0.1")
            await peer.say(
                m.pack_extended(HANDSHAKE, encode({b"m": {b"xx": 9}, b"v": b"Scripted", b"p": 4321})),
                m.pack_extended(200, b"whatever"),
                m.INTERESTED,
            )
            await peer.hear_until("unchoke")
            (swarm,) = engine.session.swarms.live.values()
            (theirs,) = swarm.peers
            assert (theirs.client, theirs.listens_on) == ("Scripted", Address("127.0.0.1", 4321))
            assert theirs.spoken.numbers == {"xx": 9}
            await peer.say(m.pack_extended(HANDSHAKE, bytes(HANDSHAKE_BYTES + 1)))
            await peer.until_gone()
