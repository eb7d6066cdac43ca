"""The client of UDP trackers (BEP 15, 41): questions go out in datagrams, answers are believed by whom they come from.

An answer counts when its transaction was drawn by us, at random, for a question that still waits, and when it comes
from the address that was asked; everything else is dropped after one look at its head. So nothing that a stranger
sends is kept, and what waits is bounded by who asks: the announcer's slots.

A question without an answer is sent again after 15 s, and is given up after 30 s more: the announcer goes on with the
ladder (15·2ⁿ s) by its back-off, and others have its slot meanwhile. A connection id serves all torrents for 60 s.
"""

import math
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

import trio

from bittern.discovery.families import Silences, announces_together, counts_together
from bittern.errors import TrackerError
from bittern.net.doors import LooksUp, Unreachable, admits_datagrams
from bittern.proto.announce import PEERS_AT_MOST, AnnounceRequest, AnnounceResponse, Counts
from bittern.proto.datagram import Kind
from bittern.proto.udp_announce import (
    ERROR,
    URL_DATA_AT_MOST,
    pack_announce,
    pack_connect,
    pack_scrape,
    parse_announce,
    parse_connect,
    parse_head,
    parse_scrape,
)
from bittern.terms import Address, InfoHash

WAITS_S: Final = (15.0, 30.0)
"""For the answer to each sending of a question."""

DEADLINE_S: Final = 60.0
"""For everything: the name, the connection, the answer."""

CONNECTION_S: Final = 60.0
DEFAULT_PORT: Final = 80
"""What others take when the URL names none."""

ENDPOINTS_AT_MOST: Final = 512
ANSWER_AT_MOST_BYTES: Final = 20 + 18 * PEERS_AT_MOST

Pack = Callable[[int, int], bytes]
"""Connection and transaction to the datagram that asks."""

T = TypeVar("T")


class Datagrams(Protocol):
    """The UDP sockets, or a test's."""

    def register(self, kind: Kind, receive: Callable[[memoryview, Address], bool]) -> None:
        """Who is called with datagrams of that kind, and says whether they were of any worth."""

    def reaches(self, host: str) -> bool:
        """Can we send to that address at all?"""

    def send(self, datagram: bytes, to: Address) -> bool:
        """False: lost at once. `OSError` when it cannot be reached."""


class _Question:
    """Waits for the answer to one transaction."""

    __slots__ = ("address", "answer", "answered")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.answer: bytes | None = None
        self.answered = trio.Event()


class _Attempt:
    """One try to get a connection id, which all wait for who want one."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: TrackerError | None = None


class _Endpoint:
    """One address of a tracker."""

    __slots__ = ("address", "attempt", "connection", "fresh_until")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connection = 0
        self.fresh_until = -math.inf
        self.attempt: _Attempt | None = None

    def forget(self, connection: int) -> None:
        """That id was of no use."""
        if self.connection == connection:
            self.fresh_until = -math.inf


class UdpTrackers:
    """One for the process. `rng` must not be foreseeable: what it draws tells answers from forgeries."""

    def __init__(self, datagrams: Datagrams, names: LooksUp, rng: random.Random) -> None:
        self._datagrams = datagrams
        self._names = names
        self._rng = rng
        self._silences: Silences[_Endpoint] = Silences()
        self._endpoints: OrderedDict[Address, _Endpoint] = OrderedDict()
        self._waiting: dict[int, _Question] = {}
        datagrams.register(Kind.TRACKER, self._receive)

    async def announce(self, url: str, request: AnnounceRequest) -> AnnounceResponse:
        """To an address of each family that the tracker has; what they tell together. Errors as of `announce`."""
        host, port, url_data = _parts(url)

        async def ask(endpoint: _Endpoint) -> AnnounceResponse:
            pack = partial(pack_announce, request=request, url_data=url_data)
            return parse_announce(await self._ask(endpoint, pack), v6=":" in endpoint.address.host)

        return announces_together(await self._ask_all(host, port, url_data, ask))

    async def scrape(self, url: str, info_hashes: Sequence[InfoHash]) -> list[Counts]:
        """At most 74 torrents at once, in their order."""
        host, port, _ = _parts(url)

        async def ask(endpoint: _Endpoint) -> list[Counts]:
            return parse_scrape(
                await self._ask(endpoint, partial(pack_scrape, info_hashes=info_hashes)), len(info_hashes)
            )

        told = await self._ask_all(host, port, b"", ask)
        return [counts_together(of) for of in zip(*told, strict=True)]

    # -- both families ---------------------------------------------------------------------------------------

    async def _ask_all(
        self, host: str, port: int, url_data: bytes, ask: Callable[[_Endpoint], Awaitable[T]]
    ) -> list[T]:
        """The answers, at least one; or the error that says most."""
        with trio.move_on_after(DEADLINE_S):
            words = url_data.decode("utf-8", "replace")
            addresses = [Address(one, port) for one in await self._names.lookup(host)]
            admitted = [one for one in addresses if admits_datagrams(one.host, port, words)]
            if addresses and not admitted:
                raise TrackerError(
                    "is on this machine, where only /announce is asked, and no port below 1024",
                    retry_in_s=math.inf,
                )
            endpoints = self._chosen(admitted)
            return await self._silences.ask_all(endpoints, ask)
        raise Unreachable(f"no answer within {DEADLINE_S:g} s")

    def _chosen(self, addresses: Sequence[Address]) -> list[_Endpoint]:
        """One of each family that we can send to; those that were silent lately only when there is no other."""
        best: dict[bool, _Endpoint] = {}
        for address in addresses:
            if self._datagrams.reaches(address.host):
                endpoint = self._endpoint(address)
                other = best.setdefault(":" in address.host, endpoint)
                if self._silences.until(endpoint) < self._silences.until(other):
                    best[":" in address.host] = endpoint
        if not best:
            raise Unreachable("has no address that we can send datagrams to")
        return self._silences.speaking(list(best.values()))

    def _endpoint(self, address: Address) -> _Endpoint:
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            endpoint = self._endpoints[address] = _Endpoint(address)
            if len(self._endpoints) > ENDPOINTS_AT_MOST:
                self._endpoints.popitem(last=False)
        self._endpoints.move_to_end(address)
        return endpoint

    # -- one address -----------------------------------------------------------------------------------------

    async def _ask(self, endpoint: _Endpoint, pack: Pack) -> bytes:
        """The answer; a connection id that was kept may have become worthless, and then another is asked for."""
        kept = trio.current_time() < endpoint.fresh_until
        with self._question(endpoint.address) as (transaction, question):
            for wait_s in WAITS_S:
                connection = await self._connection(endpoint)
                answer = await self._send(pack(connection, transaction), question, wait_s)
                if kept and (answer is None or _is_about_the_connection(answer)):
                    endpoint.forget(connection)
                    kept = False
                    if answer is not None:
                        question.answer, question.answered = None, trio.Event()
                        connection = await self._connection(endpoint)
                        answer = await self._send(pack(connection, transaction), question, wait_s)
                if answer is not None:
                    return answer
        raise Unreachable(f"no answer within {sum(WAITS_S):g} s")

    async def _connection(self, endpoint: _Endpoint) -> int:
        while trio.current_time() >= endpoint.fresh_until:
            attempt = endpoint.attempt
            if attempt is None:
                await self._connect(endpoint)
            else:
                await attempt.done.wait()
                if attempt.error is not None:
                    raise type(attempt.error)(str(attempt.error), retry_in_s=attempt.error.retry_in_s)
                # if it was cancelled, it is our turn
        return endpoint.connection

    async def _connect(self, endpoint: _Endpoint) -> None:
        attempt = endpoint.attempt = _Attempt()
        try:
            with self._question(endpoint.address) as (transaction, question):
                for wait_s in WAITS_S:
                    answer = await self._send(pack_connect(transaction), question, wait_s)
                    if answer is not None:
                        endpoint.connection = parse_connect(answer)
                        endpoint.fresh_until = trio.current_time() + CONNECTION_S
                        return
            raise Unreachable(f"no answer within {sum(WAITS_S):g} s")
        except TrackerError as error:
            attempt.error = error
            raise
        finally:
            endpoint.attempt = None
            attempt.done.set()

    # -- datagrams -------------------------------------------------------------------------------------------

    @contextmanager
    def _question(self, address: Address) -> Iterator[tuple[int, _Question]]:
        """A transaction, for as long as its answer is waited for."""
        transaction = self._rng.getrandbits(32)
        while transaction in self._waiting:
            transaction = self._rng.getrandbits(32)
        question = self._waiting[transaction] = _Question(address)
        try:
            yield transaction, question
        finally:
            del self._waiting[transaction]

    async def _send(self, datagram: bytes, question: _Question, wait_s: float) -> bytes | None:
        try:
            self._datagrams.send(datagram, question.address)
        except OSError as error:
            raise Unreachable(f"cannot be reached ({error.strerror or error})") from None
        with trio.move_on_after(wait_s):
            await question.answered.wait()
        return question.answer

    def _receive(self, datagram: memoryview, source: Address) -> bool:
        head = parse_head(datagram)
        question = None if head is None else self._waiting.get(head.transaction)
        if question is None or question.address != source or question.answer is not None:
            return False
        question.answer = bytes(datagram[:ANSWER_AT_MOST_BYTES])
        question.answered.set()
        return True


def _parts(url: str) -> tuple[str, int, bytes]:
    """Host, port, and what a tracker may want to know of the rest (BEP 41)."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or port == 0:
        raise TrackerError("has a URL that cannot be used", retry_in_s=math.inf)
    url_data = (parts.path + (f"?{parts.query}" if parts.query else "")).encode("utf-8", "replace")
    if len(url_data) > URL_DATA_AT_MOST:
        raise TrackerError("has a URL that is too long", retry_in_s=math.inf)
    return host, DEFAULT_PORT if port is None else port, url_data


def _is_about_the_connection(answer: bytes) -> bool:
    """Trackers say so in words only, and most of them misspelt."""
    head = parse_head(answer)
    return head is not None and head.action == ERROR and b"connection" in answer[8:208].lower()
