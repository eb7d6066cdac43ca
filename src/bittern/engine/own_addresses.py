"""Our own addresses: where we listen, where others see us, and where dials have led back to ourselves."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from bittern.policy.standing import Whereabouts
from bittern.terms import Address

MET_AT_MOST: Final = 64

_LOOPBACK: Final = ("127.0.0.1", "::1")


class Locates(Protocol):
    """The DHT, whose nodes tell each other where they see them."""

    @property
    def external_hosts(self) -> Iterable[str]:
        """Where other nodes see us."""

    def located(self, host: str) -> None:
        """Peers and trackers see us there."""


class OwnAddresses:
    """One for the process."""

    def __init__(
        self, listen: Iterable[str], listening_port: Callable[[], int], dht: Locates | None = None
    ) -> None:
        self._listen = frozenset((*_LOOPBACK, *listen))
        self._port = listening_port
        self._dht = dht
        self._whereabouts = Whereabouts()
        self._met: set[Address] = set()

    @property
    def listening_port(self) -> int:
        """What others reach us on."""
        return self._port()

    @property
    def seen(self) -> list[Address]:
        """As others see them, one of each family, as far as we know them."""
        hosts = {":" in host: host for host in (() if self._dht is None else self._dht.external_hosts)}
        hosts |= self._whereabouts.hosts
        return [Address(host, self.listening_port) for host in hosts.values()]

    def seen_as(self, voter: Address | None, host: str) -> Address | None:
        """By a peer, or (None) a tracker: where we are, if that is news."""
        if not self._whereabouts.vote(voter, host):
            return None
        if self._dht is not None:
            self._dht.located(host)
        return Address(host, self.listening_port)

    def met(self, address: Address) -> None:
        """A dial there has led to ourselves."""
        if len(self._met) < MET_AT_MOST:
            self._met.add(address)

    def __contains__(self, address: Address) -> bool:
        return address in self._met or (address.host in self._listen and address.port == self.listening_port)
