"""Who is asked for which piece of an info dictionary, and who is blamed."""

import hashlib
import random

import pytest

from bittern.errors import ProtocolError
from bittern.policy.metadata import (
    ASKED_AT_MOST,
    DRAFTS_AT_ONCE,
    REJECTED_S,
    REQUESTS_AT_ONCE,
    STRIKES,
    TIMEOUT_S,
    TURN_PER_PIECE_S,
    TURN_S,
    MetadataFetch,
)
from bittern.proto.metadata import MAX_METADATA_BYTES, METADATA_PIECE_BYTES, piece_bytes, piece_count


class Memory:
    """A budget for all."""

    def __init__(self, budget: int = 4 * MAX_METADATA_BYTES) -> None:
        self.left = self.budget = budget

    def credit(self, size: int) -> bool:
        if size > self.left:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        self.left += size
        assert self.left <= self.budget


def fetch(memory: Memory | None = None) -> MetadataFetch[str]:
    memory = memory or Memory()
    return MetadataFetch(credit=memory.credit, give_back=memory.give_back)


def cut(blob: bytes, piece: int) -> bytes:
    return blob[piece * METADATA_PIECE_BYTES : (piece + 1) * METADATA_PIECE_BYTES]


def made(pieces: float, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(int(pieces * METADATA_PIECE_BYTES))


def test_pieces_are_shared_out_among_peers() -> None:
    one = fetch()
    blob = made(7.5)
    for name in ("a", "b"):
        one.join(name, len(blob))
    assert one.asks("a", 0.0) == [0, 1, 2, 3]
    assert one.asks("b", 0.0) == [4, 5, 6, 7]
    draft = None
    for n in range(8):
        name = "a" if n < 4 else "b"
        draft = one.landed(name, n, len(blob), cut(blob, n), 0.1)
        assert (draft is not None) == (n == 7)
    assert draft is not None
    assert draft.blob() == blob
    assert one.judged(draft, good=True) == set()
    assert one.held_bytes == 0


def test_a_silent_peer_holds_up_nobody() -> None:
    one = fetch()
    blob = made(1)
    for name in ("silent", "mute", "honest", "fourth"):
        one.join(name, len(blob))
    assert [one.asks(name, 0.0) for name in ("silent", "mute", "honest", "fourth")] == [[0], [0], [0], []]
    assert one.landed("honest", 0, len(blob), blob, 0.1) is not None


def test_the_unanswered_are_given_up_and_their_pieces_asked_of_others() -> None:
    one = fetch()
    blob = made(4)
    one.join("silent", len(blob))
    assert one.asks("silent", 0.0) == [0, 1, 2, 3]
    one.join("honest", len(blob))
    assert one.tick(TIMEOUT_S - 0.1) == []
    assert one.tick(TIMEOUT_S) == ["silent"]
    one.leave("silent")
    assert one.asks("honest", TIMEOUT_S) == [0, 1, 2, 3]


def test_who_rejects_is_asked_a_little_later_and_then_given_up() -> None:
    one = fetch()
    one.join("busy", 100)
    now = 0.0
    for _ in range(STRIKES):
        assert one.asks("busy", now) == [0]
        assert one.rejected("busy", 0, now)
        assert one.asks("busy", now + REJECTED_S - 0.1) == []
        now += REJECTED_S
    assert one.rejected("busy", 0, now), "nobody asked"
    assert one.asks("busy", now) == [0]
    assert not one.rejected("busy", 0, now)


@pytest.mark.parametrize("size", [0, -1, MAX_METADATA_BYTES + 1])
def test_lengths_that_cannot_be(size: int) -> None:
    with pytest.raises(ProtocolError):
        fetch().join("a", size)


def test_another_length_the_second_time() -> None:
    one = fetch()
    one.join("a", 100)
    one.join("a", 100)
    with pytest.raises(ProtocolError):
        one.join("a", 101)


@pytest.mark.parametrize(
    ("piece", "total", "length"),
    [(0, 20_000, 16383), (0, 20_000, 0), (1, 20_000, 16384), (2, 20_000, 16384), (0, 20_001, 16384)],
)
def test_pieces_that_do_not_fit(piece: int, total: int, length: int) -> None:
    one = fetch()
    one.join("a", 20_000)
    one.asks("a", 0.0)
    with pytest.raises(ProtocolError):
        one.landed("a", piece, total, bytes(length), 0.0)


def test_what_nobody_asked_for_counts_for_nothing() -> None:
    one = fetch()
    one.join("a", 20_000)
    assert one.landed("a", 0, 20_000, bytes(16384), 0.0) is None
    assert one.landed("stranger", 0, 20_000, bytes(16384), 0.0) is None
    assert one.held_bytes == 0


def test_one_who_lied_alone_is_known_at_once() -> None:
    one = fetch()
    one.join("liar", 100)
    one.asks("liar", 0.0)
    draft = one.landed("liar", 0, 100, bytes(100), 0.0)
    assert draft is not None
    one.leave("liar")  # that is no way out
    assert one.judged(draft, good=False) == {"liar"}
    assert one.held_bytes == 0


def test_of_several_who_lied_each_is_asked_for_the_whole_next() -> None:
    one = fetch()
    blob = made(5)
    for name in ("liar", "honest"):
        one.join(name, len(blob))
    asked = {name: one.asks(name, 0.0) for name in ("liar", "honest")}
    draft = None
    for name, pieces in asked.items():
        for n in pieces:
            body = bytes(16384) if name == "liar" else cut(blob, n)
            draft = one.landed(name, n, len(blob), body, 0.0) or draft
    assert draft is not None
    assert hashlib.sha1(draft.blob()).digest() != hashlib.sha1(blob).digest()
    assert one.judged(draft, good=False) == set(), "one of them is innocent"
    ends = {}
    for _ in range(2):
        for name in ("liar", "honest"):
            for n in one.asks(name, 1.0):
                body = bytes(16384) if name == "liar" else cut(blob, n)
                ends[name] = one.landed(name, n, None, body, 1.0)
    assert ends["liar"] is not None
    assert ends["honest"] is not None
    assert ends["honest"].blob() == blob
    assert one.judged(ends["liar"], good=False) == {"liar"}
    assert one.judged(ends["honest"], good=True) == set()


def test_memory_is_granted_before_anything_is_asked_for() -> None:
    memory = Memory(100_000)
    one, other = fetch(memory), fetch(memory)
    one.join("a", 90_000)
    assert one.asks("a", 0.0)
    other.join("b", 20_000)
    assert other.asks("b", 0.0) == []
    one.close()
    assert other.asks("b", 0.0) == [0, 1]
    other.leave("b")
    other.close()
    assert memory.left == memory.budget


def test_lengths_take_turns() -> None:
    one = fetch()
    for n in range(DRAFTS_AT_ONCE):
        one.join(f"liar {n}", 100 + n)
        assert one.asks(f"liar {n}", 0.0) == [0]
    one.join("honest", 99)
    assert one.asks("honest", 0.0) == []
    now = TURN_S + TURN_PER_PIECE_S
    one.tick(now)
    assert one.asks("honest", now) == [0]


def test_who_comes_claims_and_goes_holds_neither_place_nor_memory() -> None:
    memory = Memory()
    one = fetch(memory)
    for n in range(DRAFTS_AT_ONCE):
        one.join(f"liar {n}", MAX_METADATA_BYTES - n)
        assert one.asks(f"liar {n}", 0.0)
    assert memory.left < memory.budget
    for n in range(DRAFTS_AT_ONCE):
        one.leave(f"liar {n}")
    assert memory.left == memory.budget
    one.join("honest", 99)
    assert one.asks("honest", 0.0) == [0]


def test_what_somebody_brought_and_left_makes_room_for_those_who_are_here() -> None:
    one = fetch()
    for n in range(DRAFTS_AT_ONCE):
        size = 2 * METADATA_PIECE_BYTES - n
        one.join(f"gone {n}", size)
        assert one.asks(f"gone {n}", 0.0) == [0, 1]
        one.landed(f"gone {n}", 0, size, bytes(METADATA_PIECE_BYTES), 0.1)
        one.leave(f"gone {n}")
    kept = one.held_bytes
    assert kept > 0
    one.join("honest", 99)
    assert one.asks("honest", 0.2) == [0]
    assert one.held_bytes < kept


def test_a_turn_is_as_long_as_something_comes() -> None:
    one = fetch()
    for n in range(DRAFTS_AT_ONCE):
        one.join(f"liar {n}", MAX_METADATA_BYTES - n)
        assert len(one.asks(f"liar {n}", 0.0)) == REQUESTS_AT_ONCE
    one.landed("liar 0", 0, None, bytes(METADATA_PIECE_BYTES), 1.0)
    one.join("honest", 99)
    one.tick(TURN_S - 1)
    assert one.asks("honest", TURN_S - 1) == []
    one.tick(TURN_S)
    assert one.held_bytes == MAX_METADATA_BYTES
    assert one.asks("honest", TURN_S) == [0]
    one.tick(TURN_S + TURN_PER_PIECE_S)


def test_whoever_waits_elsewhere_gets_the_memory_of_one_whose_turn_is_over() -> None:
    memory = Memory()
    one, other = fetch(memory), fetch(memory)
    for n in range(DRAFTS_AT_ONCE):
        one.join(f"liar {n}", MAX_METADATA_BYTES)
        one.join(f"another liar {n}", MAX_METADATA_BYTES - 1)
        one.asks(f"liar {n}", 0.0)
    memory.left = 0
    other.join("honest", 99)
    assert other.asks("honest", 1.0) == []
    one.tick(TURN_S)
    assert memory.left == 0
    one.tick(TURN_S, wanted=True)
    assert other.asks("honest", TURN_S) == [0]


class Walk:
    """A torrent's peers, honest and not, at random moments."""

    KINDS = (
        "honest",
        "silent",
        "rejecting",
        "other length",
        "garbage",
        "one wrong",
        "short",
        "dripping",
        "leaving",
    )

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.blob = made(rng.choice([0.01, 1, 1.5, 6, 30]), rng.randrange(99))
        self.memory = Memory(rng.choice([1, 2, 8]) * len(self.blob) + 10)
        self.fetch = fetch(self.memory)
        self.kinds: dict[str, str] = {}
        self.pending: list[tuple[float, str, int]] = []
        self.banned: set[str] = set()
        self.done_at: float | None = None
        self.serial = 0

    def newcomer(self, kind: str) -> None:
        self.serial += 1
        name = f"{kind} {self.serial}"
        size = len(self.blob)
        if kind == "other length":
            size = max(1, size + self.rng.randrange(-9, 9))
        self.kinds[name] = kind
        self.fetch.join(name, size)

    def gone(self, name: str) -> None:
        self.fetch.leave(name)
        self.kinds.pop(name, None)
        self.pending = [one for one in self.pending if one[1] != name]

    def answer(self, name: str, piece: int, now: float) -> None:
        kind = self.kinds[name]
        size = self.fetch._sources[name].size
        good = cut(self.blob, piece)
        draft = None
        try:
            match kind:
                case "honest" | "leaving" | "dripping":
                    draft = self.fetch.landed(name, piece, size, good, now)
                case "rejecting":
                    if not self.fetch.rejected(name, piece, now):
                        self.gone(name)
                case "other length" | "garbage":
                    wrong = self.rng.randbytes(piece_bytes(piece, size))
                    draft = self.fetch.landed(name, piece, size, wrong, now)
                case "one wrong":
                    body = bytes(len(good)) if piece == 0 else good
                    draft = self.fetch.landed(name, piece, size, body, now)
                case "short":
                    draft = self.fetch.landed(name, piece, size, good[:-1], now)
        except ProtocolError:
            assert kind == "short"
            self.gone(name)
        if draft is not None:
            good_one = draft.blob() == self.blob
            for liar in self.fetch.judged(draft, good=good_one):
                self.banned.add(liar)
                self.gone(liar)
            if good_one:
                self.done_at = now

    def step(self, now: float) -> None:
        for due in [one for one in self.pending if one[0] <= now]:
            if due in self.pending and self.done_at is None:
                self.pending.remove(due)
                self.answer(due[1], due[2], now)
        if self.done_at is not None:
            return
        for name in self.fetch.tick(now):
            assert self.kinds[name] != "honest", "an honest peer that answers in time was given up"
            self.gone(name)
        for name, kind in list(self.kinds.items()):
            for piece in self.fetch.asks(name, now):
                if kind != "silent":
                    pause_s = TIMEOUT_S * 0.9 if kind == "dripping" else self.rng.uniform(0, 2)
                    self.pending.append((now + pause_s, name, piece))
            if kind == "leaving" and self.rng.random() < 0.3:
                self.gone(name)

    def check(self) -> None:
        one = self.fetch
        assert self.memory.budget - self.memory.left == one.held_bytes
        assert len(one._drafts) <= DRAFTS_AT_ONCE
        for draft in one._drafts:
            for piece, count in draft.asked.items():
                holders = [s for s in one._sources.values() if s.draft is draft and piece in s.requested]
                assert len(holders) == count <= ASKED_AT_MOST
            assert len(draft.pieces) + len(draft.asked) == piece_count(draft.size)
        assert all(len(source.requested) <= REQUESTS_AT_ONCE for source in one._sources.values())
        assert not any(name.startswith(("honest", "leaving", "dripping")) for name in self.banned)


@pytest.mark.parametrize("seed", range(60))
def test_any_company_ends_well_when_one_is_honest(seed: int) -> None:
    rng = random.Random(seed)
    walk = Walk(rng)
    now = 0.0
    honest_since = rng.choice([0.0, 40.0])
    while walk.done_at is None:
        if honest_since <= now and "honest" not in walk.kinds.values():
            walk.newcomer("honest")
        if rng.random() < 0.2 and len(walk.kinds) < 15:
            walk.newcomer(rng.choice(walk.KINDS[1:]))
        walk.step(now)
        walk.check()
        now += 0.5
        assert now < 3600, f"no end with {walk.kinds}"
    walk.fetch.close()
    assert walk.memory.left == walk.memory.budget
