"""Piece buffers: budget, fairness, recycling."""

import random

import pytest

from bittern.disk.buffers import TURN_BYTES, TURN_SHARE, PieceBuffers

KIB = 1024
MIB = 1024 * KIB


class Owner:
    """Wants some sizes in order; keeps what it gets."""

    def __init__(self, buffers: PieceBuffers, *wants: int, turn: int = 0) -> None:
        self.buffers = buffers
        self.turn = turn
        self.wants = list(wants)
        self.held: list[memoryview] = []
        self.pokes = 0

    def ask(self) -> None:
        while self.wants:
            view = self.buffers.request(self, self.wants[0], self.turn)
            if view is None:
                return
            assert len(view) == self.wants.pop(0)
            self.held.append(view)

    def buffer_available(self) -> None:
        self.pokes += 1
        self.ask()

    def give_back(self) -> None:
        self.buffers.release(self.held.pop(0))


def test_a_view_has_exactly_the_size_and_the_budget_holds():
    buffers = PieceBuffers(4 * MIB)
    owner = Owner(buffers, MIB, MIB, MIB, MIB, MIB)
    owner.ask()
    assert [len(view) for view in owner.held] == [MIB] * 4
    assert buffers.in_use_bytes == 4 * MIB
    owner.give_back()
    assert owner.pokes == 1
    assert len(owner.held) == 4
    assert not owner.wants


def test_released_memory_is_used_again():
    buffers = PieceBuffers(4 * MIB)
    owner = Owner(buffers, MIB)
    owner.ask()
    first = owner.held[0].obj
    owner.give_back()
    owner.wants = [MIB - 1000]
    owner.ask()
    assert owner.held[0].obj is first
    assert len(owner.held[0]) == MIB - 1000
    assert buffers.kept_bytes == 0


def test_kept_buffers_make_room_for_another_size():
    buffers = PieceBuffers(4 * MIB)
    small = Owner(buffers, *[256 * KIB] * 16)
    small.ask()
    while small.held:
        small.give_back()
    assert buffers.kept_bytes == 4 * MIB
    large = Owner(buffers, 2 * MIB)
    large.ask()
    assert large.held
    assert buffers.in_use_bytes + buffers.kept_bytes <= 4 * MIB


def test_owners_get_their_turn_in_the_order_of_asking_one_buffer_each():
    buffers = PieceBuffers(2 * MIB)
    holder = Owner(buffers, MIB, MIB)
    holder.ask()
    first, second = Owner(buffers, MIB, MIB), Owner(buffers, MIB, MIB)
    first.ask()
    second.ask()
    holder.give_back()
    assert (len(first.held), len(second.held)) == (1, 0)
    holder.give_back()
    assert (len(first.held), len(second.held)) == (1, 1)
    second.give_back()
    assert (len(first.held), len(second.held)) == (2, 0)
    first.give_back()
    assert (len(first.held), len(second.held)) == (1, 1)


def test_a_turn_may_be_of_several_buffers_and_the_next_one_follows():
    buffers = PieceBuffers(64 * MIB)
    holder = Owner(buffers, *[MIB] * 64)
    holder.ask()
    first = Owner(buffers, *[256 * KIB] * 6, turn=MIB)
    second = Owner(buffers, *[256 * KIB] * 3, turn=512 * KIB)
    for owner in (first, second):
        owner.ask()
    holder.give_back()
    assert (len(first.held), len(second.held)) == (4, 0)
    holder.give_back()
    assert (len(first.held), len(second.held)) == (4, 2), (
        "the rest is too little for another turn of the first"
    )
    assert (first.pokes, second.pokes) == (1, 1)
    holder.give_back()
    assert (len(first.held), len(second.held)) == (6, 3), "of whom nobody waits behind"


def test_no_turn_is_more_than_a_small_share_of_the_budget():
    for budget in (16 * MIB, 64 * MIB, 512 * MIB):
        most = min(TURN_BYTES, budget // TURN_SHARE)
        buffers = PieceBuffers(budget)
        holder = Owner(buffers, *[MIB] * (budget // MIB))
        holder.ask()
        greedy, other = (Owner(buffers, *[64 * KIB] * 1000, turn=budget) for _ in range(2))
        greedy.ask()
        other.ask()
        holder.give_back()
        assert len(greedy.held) * 64 * KIB <= max(most, MIB // 2)
        assert len(greedy.held) >= most // (64 * KIB)
        assert other.held or most == MIB


def test_nobody_overtakes_a_large_request():
    buffers = PieceBuffers(4 * MIB)
    holder = Owner(buffers, 2 * MIB)
    holder.ask()
    large, small = Owner(buffers, 3 * MIB), Owner(buffers, 16 * KIB)
    large.ask()
    small.ask()
    assert not small.held
    holder.give_back()
    assert large.held
    assert small.held


def test_an_owner_is_poked_once_even_when_it_asked_twice():
    buffers = PieceBuffers(MIB)
    holder = Owner(buffers, MIB)
    holder.ask()
    owner = Owner(buffers, MIB)
    owner.ask()
    owner.ask()
    owner.wants.clear()
    holder.give_back()
    assert owner.pokes == 1


def test_an_owner_that_wants_nothing_any_more_does_not_stop_the_line():
    buffers = PieceBuffers(MIB)
    holder, bored, eager = (Owner(buffers, MIB) for _ in range(3))
    for owner in (holder, bored, eager):
        owner.ask()
    bored.wants.clear()
    holder.give_back()
    assert bored.pokes == 1
    assert eager.held


def test_forgetting_the_head_of_the_line_serves_the_next():
    buffers = PieceBuffers(2 * MIB)
    holder = Owner(buffers, MIB)
    holder.ask()
    large, small = Owner(buffers, 2 * MIB), Owner(buffers, MIB)
    large.ask()
    small.ask()
    buffers.forget(large)
    assert small.held
    holder.give_back()
    assert not large.pokes


def test_a_request_beyond_the_budget_is_granted_when_nothing_else_is_out():
    buffers = PieceBuffers(MIB)
    holder = Owner(buffers, 16 * KIB)
    holder.ask()
    huge = Owner(buffers, 5 * MIB)
    huge.ask()
    assert not huge.held
    holder.give_back()
    assert huge.held
    huge.give_back()
    assert buffers.kept_bytes <= MIB


def test_a_release_from_within_a_poke_is_served_too():
    buffers = PieceBuffers(2 * MIB)
    holder = Owner(buffers, MIB, MIB)
    holder.ask()

    class GivesUp(Owner):
        def buffer_available(self) -> None:
            super().buffer_available()
            self.give_back()

    fickle, patient = GivesUp(buffers, MIB), Owner(buffers, MIB)
    fickle.ask()
    patient.ask()
    holder.give_back()
    assert patient.held


def test_a_larger_budget_serves_the_line_and_a_smaller_one_lets_memory_go():
    buffers = PieceBuffers(MIB)
    holder, owner = Owner(buffers, MIB), Owner(buffers, MIB)
    holder.ask()
    owner.ask()
    buffers.set_budget(2 * MIB)
    assert owner.held
    holder.give_back()
    assert buffers.kept_bytes == MIB
    buffers.set_budget(MIB)
    assert buffers.kept_bytes == 0
    assert buffers.span_limit == MIB // 8


def test_memory_is_let_go_when_traffic_stops_but_not_while_it_flows():
    buffers = PieceBuffers(8 * MIB)
    owner = Owner(buffers, *[MIB] * 8)
    owner.ask()
    while owner.held:
        owner.give_back()
    for _ in range(20):
        owner.wants = [MIB] * 8
        owner.ask()
        while owner.held:
            owner.give_back()
        buffers.trim()
    assert buffers.kept_bytes == 8 * MIB
    for _ in range(60):
        buffers.trim()
    assert buffers.kept_bytes == 0


def test_returning_what_is_not_out_is_loud():
    buffers = PieceBuffers(MIB)
    with pytest.raises(ValueError, match="not out"):
        buffers.release(memoryview(bytearray(10)))
    owner = Owner(buffers, MIB)
    owner.ask()
    view = owner.held[0]
    buffers.release(view)
    with pytest.raises(ValueError, match="not out"):
        buffers.release(view)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("turn", [0, 100_000, 4 * MIB])
def test_random_walk_keeps_the_budget_and_the_order_and_starves_nobody(seed, turn):
    rng = random.Random(seed)
    budget = 16 * MIB
    buffers = PieceBuffers(budget)
    line: list[Owner] = []

    class Waits(Owner):
        """Knows its place: those who stood in line before it are served before it."""

        def ask(self) -> None:
            before = len(self.held)
            super().ask()
            if self.wants and self not in line:
                line.append(self)
            assert len(self.held) == before or not line or line[0] is self

        def buffer_available(self) -> None:
            assert line.pop(0) is self
            before = sum(len(view.obj) for view in self.held)
            self.pokes += 1
            Owner.ask(self)
            took = sum(len(view.obj) for view in self.held) - before
            assert took, "a wake-up for nothing"
            if line:
                assert took <= max(len(self.held[-1].obj), turn and budget // TURN_SHARE)
            if self.wants:
                line.append(self)

    owners: list[Owner] = [Waits(buffers, turn=turn) for _ in range(30)]
    for _ in range(2000):
        owner = rng.choice(owners)
        if rng.random() < 0.5:
            if not owner.wants:
                sizes = (1, 16 * KIB, 100_000, 256 * KIB, MIB, 3 * MIB, 20 * MIB)
                owner.wants += rng.choices(sizes, (9, 9, 9, 9, 9, 3, 1), k=rng.randint(1, 8))
            owner.ask()
        elif owner.held:
            before, pokes = buffers.in_use_bytes, sum(one.pokes for one in owners)
            freed = len(owner.held[0].obj)
            owner.give_back()
            came = buffers.in_use_bytes - before + freed
            pokes = sum(one.pokes for one in owners) - pokes
            assert pokes * 16 * KIB <= came, "more were woken than buffers were had"
        if rng.random() < 0.05:
            buffers.trim()
        held = sum(len(view.obj) for one in owners for view in one.held)
        assert buffers.in_use_bytes == held
        assert held + buffers.kept_bytes <= budget or sum(len(one.held) for one in owners) <= 1
        if not held:
            assert not line
    for _ in range(3000):
        for owner in owners:
            if owner.held:
                owner.give_back()
    assert not any(owner.wants or owner.held for owner in owners)
