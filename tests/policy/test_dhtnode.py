"""One node of the DHT, seen from outside: what it answers, what it asks, and what it does not let others make of it."""

import random

import pytest

from bittern.policy.allowance import (
    BURST_S,
    LARGE_BYTES_PER_S,
    PER_SOURCE_BURST,
    SMALL_FACTOR,
    STRANGERS_PER_S,
    AnswerLimits,
)
from bittern.policy.dhtnode import (
    ENDPOINTS,
    QUERIES_BURST,
    QUERIES_PER_S,
    DhtNode,
)
from bittern.policy.routing import K
from bittern.policy.search import Announcement, SearchResult
from bittern.policy.standing import GOOD_NODES, QUIET_S, TRIAL_S, VOTES_NEEDED
from bittern.policy.transactions import LOST_S, SLOW_S
from bittern.proto.bencode import encode
from bittern.proto.bloom import BloomFilter
from bittern.proto.compact import pack_address, pack_host
from bittern.proto.krpc import (
    METHOD_UNKNOWN,
    PROTOCOL_ERROR,
    SENT_AT_MOST,
    Fault,
    Message,
    Method,
    NodeInfo,
    Query,
    Response,
    pack_fault,
    pack_query,
    pack_response,
    parse_krpc,
)
from bittern.proto.nodeid import fits, make_node_id
from bittern.terms import Address, InfoHash, NodeId

TORRENT = InfoHash(b"\x55" * 20)
STRANGER = NodeId(b"\x77" * 20)


def place(number: int, port: int = 6881) -> Address:
    return Address(f"50.{number // 200}.{number % 200}.1", port)


class Rig:
    """A node whose datagrams are kept, and can be answered by hand."""

    def __init__(self, *, family: int = 4, contacts: int = 0, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.sent: list[tuple[Message, Address, int]] = []
        self.node = DhtNode(
            NodeId(self.rng.randbytes(20)),
            rng=self.rng,
            now=0.0,
            family=family,
            send=lambda datagram, to: self.sent.append((parse_krpc(datagram), to, len(datagram))),
            limits=AnswerLimits(0.0),
        )
        self.found: list[Address] = []
        self.results: list[SearchResult] = []
        for number in range(contacts):
            self.node.table.answered(self.id_at(number), place(number), 0.0)

    @staticmethod
    def id_at(number: int) -> NodeId:
        return make_node_id(place(number).host, random.Random(number))

    def hear(self, query: Query, source: Address) -> list[Message]:
        """What answers that query."""
        self.sent.clear()
        self.node.receive(pack_query(query), source, self.now)
        return [message for message, to, _ in self.sent if to == source and not isinstance(message, Query)]

    def queries(self) -> list[tuple[Query, Address]]:
        """Sent since the last time."""
        found = [(message, to) for message, to, _ in self.sent if isinstance(message, Query)]
        self.sent.clear()
        return found

    def reply(self, query: Query, source: Address, sender: NodeId, **told: object) -> bool:
        told.setdefault("seen_as", bytes(6))
        blob = pack_response(query.transaction, sender, **told)  # type: ignore[arg-type] — as each test likes
        return self.node.receive(blob, source, self.now)

    def search(self, **more: object) -> None:
        self.node.search(
            TORRENT, self.now, urgent=True, found=self.found.extend, done=self.results.append, **more
        )

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.node.tick(self.now)


# -- answers -----------------------------------------------------------------------------------------------------


def test_ping_is_answered_with_where_it_came_from() -> None:
    rig = Rig()
    (answer,) = rig.hear(Query(b"ab", Method.PING, STRANGER), place(1))
    assert answer == Response(b"ab", rig.node.own_id, seen_as=place(1))


def test_find_node_gives_the_nearest_good_ones() -> None:
    rig = Rig(contacts=30)
    (answer,) = rig.hear(Query(b"ab", Method.FIND_NODE, STRANGER, TORRENT), place(99))
    assert isinstance(answer, Response)
    nearest = rig.node.table.closest(TORRENT, K, 0.0)
    assert answer.nodes4 == tuple(one.info for one in nearest)
    assert answer.nodes6 == ()


def test_get_peers_and_announce() -> None:
    rig = Rig(contacts=30)
    asks = Query(b"ab", Method.GET_PEERS, STRANGER, TORRENT)
    (answer,) = rig.hear(asks, place(1))
    assert isinstance(answer, Response)
    assert len(answer.nodes4) == K
    assert answer.values == ()
    tells = Query(b"cd", Method.ANNOUNCE_PEER, STRANGER, TORRENT, answer.token, 7000)
    (said,) = rig.hear(tells, place(1, 1000))
    assert said == Response(b"cd", rig.node.own_id, seen_as=place(1, 1000))
    (again,) = rig.hear(asks, place(2))
    assert isinstance(again, Response)
    assert again.values == (place(1, 7000),)
    assert len(again.nodes4) == K


def test_the_port_of_the_datagram_counts_when_it_is_implied() -> None:
    rig = Rig()
    (answer,) = rig.hear(Query(b"ab", Method.GET_PEERS, STRANGER, TORRENT), place(1))
    tells = Query(b"cd", Method.ANNOUNCE_PEER, STRANGER, TORRENT, answer.token, 7000, implied_port=True)
    rig.hear(tells, place(1, 1000))
    assert rig.node.store.peers(TORRENT, 9, 0.0) == [pack_address(place(1, 1000))]


def test_a_token_of_another_host_or_none_of_ours_is_refused() -> None:
    rig = Rig()
    (answer,) = rig.hear(Query(b"ab", Method.GET_PEERS, STRANGER, TORRENT), place(1))
    for token, source in ((answer.token, place(2)), (b"forged", place(1))):
        (said,) = rig.hear(Query(b"cd", Method.ANNOUNCE_PEER, STRANGER, TORRENT, token, 7000), source)
        assert isinstance(said, Fault)
        assert said.code == PROTOCOL_ERROR
    assert len(rig.node.store) == 0


def test_a_full_torrent_gives_no_token() -> None:
    rig = Rig()
    rig.node.store.accepts = lambda _: False  # type: ignore[method-assign] — as if
    (answer,) = rig.hear(Query(b"ab", Method.GET_PEERS, STRANGER, TORRENT), place(1))
    assert answer.token == b""


def test_what_cannot_be_served_is_told_shortly() -> None:
    rig = Rig()
    strange = encode({b"t": b"ab", b"y": b"q", b"q": b"vote", b"a": {b"id": STRANGER}})
    assert not rig.node.receive(strange, place(1), 0.0), "answered, but nobody asked for it"
    ((answer, to, size),) = rig.sent
    assert isinstance(answer, Fault)
    assert (answer.code, to) == (METHOD_UNKNOWN, place(1))
    assert size <= 2 * len(strange)


def test_answers_that_nobody_asked_for_take_nothing_from_those_who_ask() -> None:
    rig = Rig()
    forged = pack_response(b"aa", STRANGER, seen_as=b"")
    for number in range(5000):
        assert not rig.node.receive(forged, place(number % 200), 0.0)
    assert not rig.sent
    assert rig.hear(Query(b"ab", Method.PING, STRANGER), place(1))


@pytest.mark.parametrize("blob", [b"", b"d", b"de", b"garbage", b"d1:t2:aa1:y1:re", b"l" * 1000])
def test_garbage_gets_no_answer(blob: bytes) -> None:
    rig = Rig()
    assert not rig.node.receive(blob, place(1), 0.0)
    assert rig.sent == []


def test_want_asks_for_the_other_family_too() -> None:
    rig, other = Rig(contacts=5), Rig(family=6, seed=2)
    rig.node.paired(other.node)
    six = Address("2001:db8:1::1", 6881)
    other.node.table.answered(make_node_id(six.host, rig.rng), six, 0.0)
    (answer,) = rig.hear(Query(b"ab", Method.FIND_NODE, STRANGER, TORRENT, want6=True), place(99))
    assert isinstance(answer, Response)
    assert answer.nodes4 == ()
    assert [one.address for one in answer.nodes6] == [six]
    (answer,) = rig.hear(Query(b"ab", Method.FIND_NODE, STRANGER, TORRENT, want4=True, want6=True), place(98))
    assert isinstance(answer, Response)
    assert (len(answer.nodes4), len(answer.nodes6)) == (5, 1)
    # the other way round the datagram's family counts
    (answer,) = other.hear(Query(b"ab", Method.FIND_NODE, STRANGER, TORRENT), Address("2001:db8:2::1", 1))
    assert isinstance(answer, Response)
    assert (len(answer.nodes4), len(answer.nodes6)) == (0, 1)


def popular(rig: Rig, peers: int) -> None:
    for number in range(peers):
        rig.node.store.add(TORRENT, place(1000 + number), 0.0, seed=number % 2 == 0)


def test_no_answer_is_longer_than_it_may_be_and_a_forged_flood_is_no_amplifier() -> None:
    """Each question claims to come from somebody else."""
    rig = Rig(contacts=30)
    popular(rig, 400)
    asks = Query(b"ab", Method.GET_PEERS, STRANGER, TORRENT, scrape=True)
    size = len(pack_query(asks))
    served = went_out = 0
    for number in range(3000):
        rig.sent.clear()
        rig.node.receive(pack_query(asks), place(5000 + number), number / 1000)
        answers = [length for message, _, length in rig.sent if isinstance(message, Response)]
        assert all(length <= SENT_AT_MOST for length in answers)
        served += len(answers)
        went_out += sum(answers)
        assert len(rig.sent) <= 2, "a ping to see whether it is there"
    assert served <= STRANGERS_PER_S * (3 + BURST_S) + 1
    assert went_out <= SMALL_FACTOR * served * size + LARGE_BYTES_PER_S * 4


def test_one_victim_gets_next_to_nothing() -> None:
    rig = Rig(contacts=30)
    popular(rig, 400)
    asks = Query(b"ab", Method.GET_PEERS, STRANGER, TORRENT, scrape=True)
    for number in range(1000):
        rig.node.receive(pack_query(asks), place(1, 1 + number), 0.0)
    assert len(rig.sent) <= PER_SOURCE_BURST


def test_known_ones_get_as_many_peers_as_fit_and_scrapes_are_answered() -> None:
    rig = Rig(contacts=30)
    popular(rig, 400)
    rig.node.answers.limits.met(place(1), 0.0)
    (plain,) = rig.hear(Query(b"ab", Method.GET_PEERS, STRANGER, TORRENT), place(1))
    assert isinstance(plain, Response)
    assert len(plain.values) > 80
    (answer,) = rig.hear(Query(b"ab", Method.GET_PEERS, STRANGER, TORRENT, scrape=True), place(1))
    assert isinstance(answer, Response)
    assert BloomFilter(answer.seeds_filter).estimate() == pytest.approx(200, rel=0.1)
    assert BloomFilter(answer.peers_filter).estimate() == pytest.approx(200, rel=0.1)
    assert answer.values
    assert rig.sent[0][2] <= SENT_AT_MOST


# -- who gets into the table ---------------------------------------------------------------------------------------


def test_who_asks_is_pinged_and_gets_in_when_it_answers() -> None:
    rig = Rig()
    rig.node.receive(pack_query(Query(b"ab", Method.PING, STRANGER)), place(1), 0.0)
    ((ping, to),) = rig.queries()
    assert (ping.method, to) == (Method.PING, place(1))
    assert len(rig.node.table) == 0
    assert rig.reply(ping, place(1), STRANGER)
    assert rig.node.table.get(STRANGER) is not None


def test_who_is_read_only_is_served_and_not_pinged() -> None:
    rig = Rig()
    (answer,) = rig.hear(Query(b"ab", Method.PING, STRANGER, read_only=True), place(1))
    assert isinstance(answer, Response)
    rig.sent.clear()
    rig.node.tick(0.0)
    assert rig.sent == []


def test_an_answer_from_elsewhere_or_to_no_question_is_of_no_worth() -> None:
    rig = Rig(contacts=1)
    rig.node.tick(0.0)
    ((query, to),) = rig.queries()
    assert not rig.reply(query, place(9), Rig.id_at(9))
    assert not rig.reply(query._replace(transaction=b"zzzz"), to, Rig.id_at(0))
    assert rig.node.table.get(Rig.id_at(9)) is None
    assert rig.reply(query, to, Rig.id_at(0))
    assert not rig.reply(query, to, Rig.id_at(0)), "once"


def test_somebody_who_calls_itself_by_our_id_is_nobody() -> None:
    rig = Rig()
    rig.node.greet(place(1))
    rig.node.tick(0.0)
    ((query, to),) = rig.queries()
    rig.reply(query, to, rig.node.own_id)
    assert len(rig.node.table) == 0
    assert rig.hear(Query(b"ab", Method.PING, rig.node.own_id), place(1)) == []


def test_a_flood_of_unknown_ones_makes_few_pings() -> None:
    rig = Rig()
    for number in range(1000):
        rig.node.receive(pack_query(Query(b"ab", Method.PING, Rig.id_at(number))), place(number), 0.0)
    assert len(rig.queries()) <= K


# -- searches ------------------------------------------------------------------------------------------------------


def test_a_search_finds_peers_and_announces_us_where_it_got_tokens() -> None:
    rig = Rig(contacts=3)
    rig.search(announcement=Announcement(port=4711, implied_port=False, seed=True))
    for query, to in rig.queries():
        assert (query.method, query.target) == (Method.GET_PEERS, TORRENT)
        number = next(n for n in range(3) if place(n) == to)
        values = [pack_address(place(50)), pack_address(place(51 + number))]
        rig.reply(query, to, Rig.id_at(number), token=b"t%d" % number, values=values)
    assert sorted(rig.found) == [place(n) for n in (50, 51, 52, 53)], "each once"
    told = rig.queries()
    assert {(query.method, query.port, query.seed, query.implied_port) for query, _ in told} == {
        (Method.ANNOUNCE_PEER, 4711, True, False)
    }
    assert {(query.token, to) for query, to in told} == {(b"t%d" % n, place(n)) for n in range(3)}
    (result,) = rig.results
    assert (result.peers, result.stored, result.asked, result.hops) == (4, 3, 3, 1)
    assert {one.address for one in result.nearest} == {place(n) for n in range(3)}


def test_an_implied_port_is_told_with_the_real_one() -> None:
    rig = Rig(contacts=1)
    rig.search(announcement=Announcement(port=4711, implied_port=True, seed=False))
    ((query, to),) = rig.queries()
    rig.reply(query, to, Rig.id_at(0), token=b"t")
    ((told, _),) = rig.queries()
    assert (told.implied_port, told.port, told.seed) == (True, 4711, False)


def test_a_silent_node_is_passed_over_and_then_given_up() -> None:
    rig = Rig(contacts=1)
    rig.search()
    rig.wait(SLOW_S)
    assert rig.results == []
    rig.wait(LOST_S - SLOW_S)
    (result,) = rig.results
    assert (result.peers, result.asked, result.nearest) == (0, 1, ())
    assert rig.node.table.get(Rig.id_at(0)).failures == 1


def test_a_fault_ends_the_wait_for_it() -> None:
    rig = Rig(contacts=1)
    rig.search()
    ((query, to),) = rig.queries()
    rig.node.receive(pack_fault(query.transaction, 202, b"no", seen_as=bytes(6)), to, 0.0)
    assert len(rig.results) == 1


def test_hints_of_the_last_time_are_asked_first() -> None:
    rig = Rig(contacts=30)
    near = NodeInfo(NodeId(TORRENT[:19] + b"\0"), Address("127.0.0.1", 1))
    rig.search(hints=[near])
    assert near.address in [to for _, to in rig.queries()]


def test_a_cancelled_search_says_nothing_more() -> None:
    rig = Rig(contacts=1)
    search = rig.node.search(TORRENT, 0.0, urgent=True, found=rig.found.extend, done=rig.results.append)
    ((query, to),) = rig.queries()
    rig.node.cancel(search)
    rig.reply(query, to, Rig.id_at(0), values=[pack_address(place(5))])
    assert (rig.found, rig.results, rig.node.search_count) == ([], [], 0)


def test_what_a_slow_node_knows_is_of_use_after_the_end() -> None:
    rig = Rig(contacts=12)
    rig.search()
    asked = rig.queries()
    late = asked[0]
    rig.wait(SLOW_S)
    pending = asked[1:] + rig.queries()
    while pending:
        for query, to in pending:
            if query.method is Method.GET_PEERS:
                rig.reply(query, to, next(Rig.id_at(n) for n in range(12) if place(n) == to))
        pending = rig.queries()
    assert len(rig.results) == 1
    rig.reply(
        *late, next(Rig.id_at(n) for n in range(12) if place(n) == late[1]), values=[pack_address(place(9))]
    )
    assert rig.found == [place(9)]


def test_a_scrape_unites_what_many_know() -> None:
    rig = Rig(contacts=2)
    rig.search(scrape=True)
    (one, at_one), (other, at_other) = rig.queries()
    assert one.scrape
    seeds, others = BloomFilter(), BloomFilter()
    for number in range(40):
        (seeds if number < 30 else others).add(pack_host(place(number).host))
    numbers = {place(n): n for n in range(2)}
    filters = (seeds.to_bytes(), others.to_bytes())
    rig.reply(one, at_one, Rig.id_at(numbers[at_one]), filters=filters)
    # an old node knows a seed of the other's, and ten more
    values = [pack_address(place(n)) for n in (3, *range(100, 110))]
    rig.reply(other, at_other, Rig.id_at(numbers[at_other]), values=values)
    (result,) = rig.results
    assert result.seeds == pytest.approx(30, abs=2)
    assert result.others == pytest.approx(20, abs=2)


def test_queries_are_bounded_whatever_is_wanted_and_urgent_ones_go_first() -> None:
    rig = Rig(contacts=40)
    calm: list[SearchResult] = []
    for number in range(50):
        rig.node.search(
            InfoHash(bytes([number]) * 20), 0.0, urgent=False, found=lambda _: None, done=calm.append
        )
    assert len(rig.sent) == QUERIES_BURST
    rig.sent.clear()
    rig.search()
    assert rig.sent == []
    # the first that may be sent again is the urgent one's, or for our own table
    rig.wait(0.05)
    assert {query.target for query, _ in rig.queries()} <= {TORRENT, rig.node.own_id}
    total = 0
    for _ in range(200):
        rig.wait(0.05)
        total += len(rig.queries())
    assert total <= 10 * QUERIES_PER_S + 2


# -- the table's care ----------------------------------------------------------------------------------------------


def test_the_first_answer_of_a_greeted_node_opens_the_door() -> None:
    rig = Rig()
    rig.node.greet(place(1))
    rig.node.tick(0.0)
    ((hello, to),) = rig.queries()
    assert (hello.method, hello.target) == (Method.FIND_NODE, rig.node.own_id)
    others = b"".join(Rig.id_at(n) + pack_address(place(n)) for n in range(2, 10))
    rig.reply(hello, to, Rig.id_at(1), nodes4=others)
    asked = rig.queries()
    assert asked
    assert all(query.method is Method.FIND_NODE and query.target == rig.node.own_id for query, _ in asked)


def test_a_saved_table_is_used_at_once() -> None:
    rig = Rig()
    rig.node.table.remembered([NodeInfo(Rig.id_at(n), place(n)) for n in range(20)], 0.0)
    rig.node.tick(0.0)
    assert {query.target for query, _ in rig.queries()} == {rig.node.own_id}
    rig.search()
    assert TORRENT in {query.target for query, _ in rig.queries()}


def test_places_to_greet_are_bounded() -> None:
    rig = Rig()
    for number in range(1000):
        rig.node.greet(place(number))
    rig.node.greet(Address("50.1.1.1", 0))
    assert len(rig.node._endpoints) == ENDPOINTS
    for _ in range(2000):
        rig.wait(0.1)
    assert len(rig.node._endpoints) == 0
    assert rig.node.queries_sent == ENDPOINTS


def test_an_idle_node_asks_to_be_called_seldom() -> None:
    rig = Rig(contacts=30)
    calls = 0
    while rig.now < 600:
        rig.now = rig.node.tick(rig.now)
        calls += 1
    assert calls < 3000


def test_an_id_that_does_not_fit_our_address_is_changed_once() -> None:
    rig = Rig(contacts=30)
    before = rig.node.own_id
    rig.search()
    seen = pack_address(Address("8.8.8.8", 1))
    count = 0
    while count < VOTES_NEEDED:
        for query, to in rig.queries():
            number = next(n for n in range(30) if place(n) == to)
            rig.reply(query, to, Rig.id_at(number), seen_as=seen)
            count += 1
        rig.wait(0.1)
    assert rig.node.external_host == "8.8.8.8"
    assert rig.node.own_id != before
    assert fits(rig.node.own_id, "8.8.8.8")
    assert len(rig.node.table) >= 10
    # who says otherwise right afterwards does not make us dance
    rig.node.external("9.9.9.9", rig.now)
    assert fits(rig.node.own_id, "8.8.8.8")


def test_a_node_that_nobody_reaches_is_read_only_for_a_while() -> None:
    rig = Rig(contacts=0)
    rng = random.Random(5)
    for number in range(60):
        rig.node.table.answered(NodeId(rng.randbytes(20)), place(number), 0.0)

    def alive() -> None:
        for contact in rig.node.table.contacts():
            contact.answered_at = rig.now
            contact.failures = 0

    assert rig.node.table.good_count(0.0) >= GOOD_NODES
    while rig.now < TRIAL_S + 10:
        alive()
        rig.wait(5.0)
    assert rig.node.reach.read_only
    rig.sent.clear()
    rig.search()
    assert all(query.read_only for query, _ in rig.queries())
    asked = next(iter(rig.node.table.contacts()))
    assert rig.hear(Query(b"ab", Method.PING, asked.node_id), asked.address) == []
    while rig.now < TRIAL_S + QUIET_S + 20:
        alive()
        rig.wait(5.0)
    assert not rig.node.reach.read_only
