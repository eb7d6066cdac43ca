"""The extension protocol among the peers of one torrent (BEP 10): the numbers that messages go by, and who hears them.

An extension is added by giving `Extensions` one more `Extension`. A private torrent has none (BEP 27); its peers are
told no more than who we are.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from bittern.engine.uploads import QUEUE_LIMIT
from bittern.errors import ProtocolError
from bittern.policy.allowance import Allowance
from bittern.policy.pipeline import Pipeline
from bittern.proto.extension import (
    UT_METADATA,
    ExtensionHandshake,
    pack_extension_handshake,
    parse_extension_handshake,
)
from bittern.proto.messages import pack_extended
from bittern.terms import Address

HANDSHAKE: Final = 0
HANDSHAKE_BYTES: Final = 16 * 1024
"""Of the longest handshake; those that are seen have a few hundred bytes."""

UNASKED_PER_S: Final = 2.0
UNASKED_BURST: Final = 120.0
"""Messages that nobody asked for: what comes beyond that is not heard."""

SPOKEN_AT_MOST: Final = 64
"""Extensions of a peer that are remembered; we speak two."""


class Spoken:
    """What one peer told of itself, and how much more it may say."""

    __slots__ = ("allowance", "numbers", "upload_only")

    def __init__(self, now: float) -> None:
        self.numbers: dict[str, int] = {}
        """By which it wants to be told (1..255)."""
        self.upload_only = False
        self.allowance = Allowance(UNASKED_PER_S, UNASKED_BURST, now)

    def take(self, told: ExtensionHandshake) -> None:
        """A handshake, the first or a later one, which tells changes only."""
        for name, number in told.extensions.items():
            if not number:
                self.numbers.pop(name, None)
            elif name in self.numbers or len(self.numbers) < SPOKEN_AT_MOST:
                self.numbers[name] = number
        if told.upload_only is not None:
            self.upload_only = told.upload_only


class Partner(Protocol):
    """A peer, as extensions meet it."""

    address: Address
    outbound: bool
    extended: bool
    """Does it speak this protocol at all?"""
    spoken: Spoken
    client: str
    listens_on: Address | None
    pipeline: Pipeline

    @property
    def is_seed(self) -> bool:
        """Has it everything?"""

    @property
    def held_bytes(self) -> int:
        """What waits until it reads, and the message of its that is not whole yet."""

    def say(self, blob: bytes) -> None:
        """Queues a message; `flush` sends it."""

    def flush(self) -> None:
        """Sends what was said."""

    def close(self) -> None:
        """Ends the connection, without blame."""


class Extension(Protocol):
    """One that we speak. What it hears is of the remote peer's making; `ProtocolError` ends that connection."""

    @property
    def name(self) -> str:
        """In everybody's handshakes."""

    @property
    def number(self) -> int:
        """By which we want to be told (1..255)."""

    @property
    def longest_bytes(self) -> int:
        """Of what is heard; who sends more goes."""

    def met(self, partner: Partner, told: ExtensionHandshake) -> None:
        """That peer speaks it too: called with each of its handshakes."""

    def heard(self, partner: Partner, payload: bytes) -> bool:
        """A message of that peer; True when it was asked for: then it does not count as unasked."""

    def left(self, partner: Partner) -> None:
        """That peer is gone; also called for those who were never met."""

    def tick(self, now: float) -> None:
        """Once a second."""


class Home(Protocol):
    """A swarm, as this sees it."""

    client_name: str
    metadata_bytes: int | None
    """The length of the info dictionary (BEP 9); None: not known yet. Told by those that speak ut_metadata."""

    @property
    def listening_port(self) -> int:
        """What others reach us on."""


def _unheeded(voter: Address, host: str) -> None:
    pass


def _never() -> bool:
    return False


class Extensions:
    """One swarm's."""

    def __init__(
        self,
        home: Home,
        spoken: Sequence[Extension],
        seen_as: Callable[[Address, str], None] = _unheeded,
        *,
        upload_only: Callable[[], bool] = _never,
    ) -> None:
        """`seen_as` hears from whom we have which address; `upload_only`: do we want nothing (BEP 21)?"""
        self._home = home
        self._seen_as = seen_as
        self._upload_only = upload_only
        self._spoken = {extension.number: extension for extension in spoken}
        self._names = {extension.name: extension.number for extension in spoken}

    def greeting(self, partner: Partner) -> bytes:
        """Our handshake, as a message, also once more when something of it has changed; nothing for a peer that would
        not know what to do with it.
        """
        if not partner.extended:
            return b""
        payload = pack_extension_handshake(
            client=self._home.client_name,
            port=self._home.listening_port,
            reqq=QUEUE_LIMIT,
            your_ip=partner.address.host,
            extensions=self._names,
            metadata_size=self._home.metadata_bytes if UT_METADATA in self._names else None,
            upload_only=self._upload_only(),
        )
        return pack_extended(HANDSHAKE, payload)

    def say(self, partner: Partner, extension: Extension, payload: bytes) -> bool:
        """Sends a message of that extension; False when the peer does not speak it."""
        number = partner.spoken.numbers.get(extension.name)
        if number is None:
            return False
        partner.say(pack_extended(number, payload))
        partner.flush()
        return True

    def heard(self, partner: Partner, number: int, payload: bytes, now: float) -> bool:
        """A message; True when it was asked for. Raises `ProtocolError`."""
        extension = self._spoken.get(number)
        if number != HANDSHAKE and extension is None:
            return False
        longest = HANDSHAKE_BYTES if extension is None else extension.longest_bytes
        if len(payload) > longest:
            raise ProtocolError(f"an extension message of {len(payload)} bytes")
        allowance = partner.spoken.allowance
        if allowance.left(now) < 1.0:
            return False
        if extension is not None and extension.heard(partner, payload):
            return True
        if extension is None:
            self._shaken(partner, parse_extension_handshake(payload))
        allowance.take(now)
        return False

    def _shaken(self, partner: Partner, told: ExtensionHandshake) -> None:
        partner.spoken.take(told)
        if told.client:
            partner.client = told.client
        if told.reqq:
            # One less than it says: Transmission rejects the request that would fill its queue.
            partner.pipeline.set_reqq(max(1, told.reqq - 1))
        if told.port and partner.listens_on is None:
            partner.listens_on = Address(partner.address.host, told.port)
        if told.your_ip is not None:
            self._seen_as(partner.address, told.your_ip)
        for extension in self._spoken.values():
            if extension.name in partner.spoken.numbers:
                extension.met(partner, told)

    def left(self, partner: Partner) -> None:
        """That peer is gone."""
        for extension in self._spoken.values():
            extension.left(partner)

    def tick(self, now: float) -> None:
        """Once a second."""
        for extension in self._spoken.values():
            extension.tick(now)
