"""Who may download where there is little room: situations, and random walks over disks that fill and empty."""

import random
from collections.abc import Hashable

from bittern.policy.space import (
    NOBODY_WRITES_S,
    PAUSE_FIRST_S,
    PAUSE_MOST_S,
    PROBATION_S,
    SEVERAL,
    STEP_BYTES,
    Space,
    Wish,
)

MIB = 1 << 20
RESERVE = 100 * MIB


def wish(who: str, need: int, age: int = 1, *, running: bool = False, on: str = "disk") -> Wish[str]:
    return Wish(who, age, {on: need * MIB}, running)


def space(free: int, *, now: float = 0.0) -> Space[str]:
    made = Space[str](RESERVE)
    made.seen({"disk": free * MIB}, now)
    return made


def test_it_starts_where_it_fits_above_the_reserve_beside_all_that_run() -> None:
    verdict = space(500).judge([wish("runs", 300, running=True), wish("fits", 100), wish("not", 1)])
    assert verdict.start == ["fits"]
    assert verdict.missing == {"not": 1 * MIB}
    assert not verdict.hold


def test_a_judgement_is_left_out_only_where_it_would_change_nothing() -> None:
    room = space(500)
    assert not room.calm(), "nothing was judged yet"
    room.judge([wish("a", 100, running=True)])
    room.seen({"disk": 490 * MIB}, 1.0)
    assert room.calm()
    assert room.starts("new", {"disk": 200 * MIB})
    room.seen({"disk": 424 * MIB}, 2.0)
    assert not room.calm(), "both and the reserve with its margin do not fit"
    room.seen({"disk": 425 * MIB}, 3.0)
    assert room.calm()
    assert not room.starts("new", {"disk": 100 * MIB}), "what is left out counts all the same"
    room.refused("disk", "a", 3.5)
    room.seen({"disk": 900 * MIB}, 4.0)
    assert not room.calm()
    waits = space(150)
    waits.judge([wish("b", 100)])
    waits.seen({"disk": 900 * MIB}, 1.0)
    assert not waits.calm(), "somebody waits"
    gone = space(500)
    gone.judge([wish("a", 100, running=True)])
    gone.seen({}, 1.0)
    assert not gone.calm(), "its disk is away"


def test_the_oldest_first_and_a_large_one_holds_up_nobody() -> None:
    verdict = space(200).judge([wish("young", 60, 3), wish("large", 900, 1), wish("old", 60, 2)])
    assert verdict.start == ["old"]
    assert verdict.missing == {"large": 800 * MIB, "young": 20 * MIB}


def test_who_runs_is_not_displaced_by_an_older_one() -> None:
    verdict = space(200).judge([wish("old", 60, 1), wish("young", 60, 2, running=True)])
    assert (verdict.start, verdict.hold, list(verdict.missing)) == ([], [], ["old"])


def test_below_the_reserve_all_are_held_and_go_on_with_a_margin() -> None:
    room = space(99)
    first = room.judge([wish("a", 5, running=True), wish("b", 0, 2, running=True)])
    assert sorted(first.hold) == ["a", "b"]
    assert [(dip.volume, dip.free_bytes, dip.needed_bytes) for dip in first.began] == [
        ("disk", 99 * MIB, (5 + 100 + 25 - 99) * MIB)
    ]
    for free in (101, 124):
        room.seen({"disk": free * MIB}, 1.0)
        again = room.judge([wish("a", 5), wish("b", 0, 2)])
        assert not again.start
        assert not again.began, "a dip is told once"
        assert not again.ended
    room.seen({"disk": 125 * MIB}, 2.0)
    last = room.judge([wish("a", 5), wish("b", 0, 2)])
    assert last.start == ["a", "b"]
    assert [dip.volume for dip in last.ended] == ["disk"]
    room.seen({"disk": 101 * MIB}, 3.0)
    assert not room.judge([wish("a", 1, running=True)]).hold


def test_file_systems_do_not_concern_each_other() -> None:
    room = Space[str](RESERVE)
    room.seen({"full": 0, "empty": 10_000 * MIB}, 0.0)
    verdict = room.judge([wish("a", 5, running=True, on="full"), wish("b", 5, on="empty")])
    assert (verdict.hold, verdict.start) == (["a"], ["b"])


def test_a_move_to_another_file_system_needs_room_on_both() -> None:
    room = Space[str](RESERVE)
    room.seen({"fast": 1000 * MIB, "large": 120 * MIB}, 0.0)
    verdict = room.judge([Wish("a", 1, {"fast": 10 * MIB, "large": 50 * MIB}, running=False)])
    assert verdict.missing == {"a": 30 * MIB}
    assert [dip.volume for dip in verdict.began] == ["large"]


def test_between_two_looks_each_start_takes_its_share() -> None:
    room = space(200)
    room.judge([])
    assert room.starts("new", {"disk": 60 * MIB})
    assert not room.starts("new", {"disk": 60 * MIB})
    assert room.starts("new", {"disk": 40 * MIB})
    assert not room.starts("new", {"unknown": 0})


def test_a_refused_write_is_a_dip_whatever_the_figures_say() -> None:
    room = space(5000)
    room.refused("disk", "a", 0.0)
    room.refused("disk", "a", 0.1)
    room.seen({"disk": 5000 * MIB}, 0.2)
    verdict = room.judge([wish("a", 5, running=True)])
    assert verdict.hold == ["a"]
    assert len(verdict.began) == 1
    assert not room.starts("a", {"disk": 5 * MIB})
    # a quota: no figure ever changes, so it is tried again
    room.seen({"disk": 5000 * MIB}, PAUSE_FIRST_S)
    tried = room.judge([wish("a", 5)])
    assert tried.start == ["a"]
    assert not tried.ended, "that it is tried says nothing yet"
    room.refused("disk", "a", 6.0)
    room.seen({"disk": 5000 * MIB}, 6.0 + PAUSE_FIRST_S)
    again = room.judge([wish("a", 5)])
    assert not again.start, "the pause has doubled"
    assert not again.began
    # somebody made room: at once
    room.seen({"disk": 5000 * MIB + max(STEP_BYTES, RESERVE // 4)}, 6.1 + PAUSE_FIRST_S)
    last = room.judge([wish("a", 5)])
    assert last.start == ["a"]
    assert len(last.ended) == 1


def test_who_is_refused_where_there_is_room_rests_alone() -> None:
    room = space(5000)
    room.refused("disk", "sick", 0.0)
    room.seen({"disk": 5000 * MIB}, 0.1)
    verdict = room.judge([wish("sick", 5, running=True), wish("well", 5, 2, running=True), wish("new", 5, 3)])
    assert (verdict.hold, verdict.start) == (["sick"], ["new"])
    assert room.starts("newer", {"disk": MIB})


def test_where_the_figures_agree_all_rest() -> None:
    room = space(100)
    room.refused("disk", "a", 0.0)
    room.seen({"disk": 100 * MIB}, 0.1)
    verdict = room.judge([wish("a", 5, running=True), wish("b", 0, 2, running=True)])
    assert verdict.hold == ["a", "b"]
    assert not room.starts("c", {"disk": 0})


def test_where_several_are_refused_and_nobody_writes_all_rest() -> None:
    for refused, writes, held in (
        (SEVERAL, False, True),
        (SEVERAL, True, False),
        (SEVERAL - 1, False, False),
    ):
        room, sick = space(5000), [f"sick {number}" for number in range(refused)]
        for number, who in enumerate(sick):
            room.refused("disk", who, number / 10)
        for now, pieces in ((1.0, 7), (1.0 + NOBODY_WRITES_S, 7 + writes)):
            room.seen({"disk": 5000 * MIB}, now)
            well = Wish("well", 1, {"disk": MIB}, running=True, pieces=pieces)
            verdict = room.judge([well, *(wish(who, 5, 2) for who in sick)])
        assert (verdict.hold == ["well"]) is held
        # they may go on being refused: they have said what they know
        now, wishes = 100.0, [Wish("well", 1, {"disk": MIB}, True), *(wish(who, 5, 2) for who in sick)]
        for who in sick:
            room.refused("disk", who, now)
        for after_s in (0, 1, NOBODY_WRITES_S + 1):
            room.seen({"disk": 5000 * MIB}, now + after_s)
            assert not room.judge(wishes).hold


def test_a_torrent_that_is_always_refused_first_holds_up_no_other() -> None:
    """An hour in which some are refused the moment they start, and one writes now and then."""
    for sick_ones in (1, 2, 5):
        room, now = space(50_000), 0.0
        sick, running, pieces, held_s = [f"sick {n}" for n in range(sick_ones)], {"well"}, 0, 0.0
        tries = 0
        while now < 3600:
            for who in sick:
                if who in running:
                    tries += 1
                    room.refused("disk", who, now)
                    running.discard(who)
            room.seen({"disk": 50_000 * MIB}, now)
            verdict = room.judge(
                Wish(who, 1, {"disk": 9 * MIB}, who in running, pieces if who == "well" else 0)
                for who in (*sick, "well")
            )
            running = (running - set(verdict.hold)) | set(verdict.start)
            held_s += 0 if "well" in running else 2.0
            pieces += "well" in running and now % 20 == 0
            now += 2.0
        assert held_s <= 10.0
        assert sick_ones * 12 < tries < sick_ones * 25, "they are tried again, ever more seldom"


def test_a_volume_may_have_a_reserve_of_its_own() -> None:
    room = Space[str](RESERVE)
    room.other_reserves = {"state": 8 * MIB}
    for free, runs in ((7, False), (9, False), (10, True), (8, True)):
        room.seen({"disk": 5000 * MIB, "state": free * MIB}, 0.0)
        verdict = room.judge([Wish("a", 1, {"disk": MIB, "state": 0}, running=free == 8)])
        assert (not verdict.missing) is runs


def test_a_trial_that_goes_well_ends_the_dip() -> None:
    room = space(5000)
    room.refused("disk", "a", 0.0)
    for now, ends in ((0.1, 0), (PAUSE_FIRST_S, 0), (PAUSE_FIRST_S + PROBATION_S, 1)):
        room.seen({"disk": 5000 * MIB}, now)
        assert len(room.judge([wish("a", 5)]).ended) == ends


def test_the_pause_has_an_end_and_is_forgotten() -> None:
    room, now = space(5000), 0.0
    for _ in range(20):
        room.refused("disk", "a", now)
        now += PAUSE_MOST_S
        room.seen({"disk": 5000 * MIB}, now)
        assert room.judge([wish("a", 1)]).start
    room.refused("disk", "a", now + 10 * PAUSE_MOST_S)
    room.seen({"disk": 5000 * MIB}, now + 10 * PAUSE_MOST_S + PAUSE_FIRST_S)
    assert room.judge([wish("a", 1)]).start


def test_random_walks() -> None:
    for seed in range(30):
        _walk(random.Random(seed))


def _walk(rng: random.Random) -> None:
    disks = ["one", "two"]
    reserve = rng.choice([0, 10, 100]) * MIB
    room = Space[int](reserve)
    free = {disk: rng.randrange(400) * MIB for disk in disks}
    needs: dict[int, dict[Hashable, int]] = {}
    running: set[int] = set()
    in_dip: set[Hashable] = set()
    now = 0.0
    for step in range(300):
        now += rng.random() * 5
        match rng.randrange(5):
            case 0:
                needs[step] = {
                    disk: rng.randrange(200) * MIB for disk in rng.sample(disks, rng.choice([1, 1, 2]))
                }
            case 1 if needs:
                gone = rng.choice(list(needs))
                del needs[gone]
                running.discard(gone)
            case 2:
                disk = rng.choice(disks)
                free[disk] = max(0, free[disk] + rng.randrange(-100, 150) * MIB)
            case 3 if running:
                # pieces are written: what was needed and what is free shrink together
                one = rng.choice(sorted(running))
                for disk, need in needs[one].items():
                    done = min(need, rng.randrange(60) * MIB, free[str(disk)])
                    needs[one][disk] = need - done
                    free[str(disk)] -= done
            case 4 if running and rng.random() < 0.3:
                one = rng.choice(sorted(running))
                running.discard(one)
                room.refused(rng.choice(list(needs[one])), one, now)
        room.seen(dict(free), now)
        verdict = room.judge([Wish(who, who, need, who in running) for who, need in needs.items()])
        assert set(verdict.hold) <= running
        assert not set(verdict.start) & running
        before = running - set(verdict.hold)
        running = before | set(verdict.start)
        # everybody runs or is told how much is missing
        assert running.isdisjoint(verdict.missing)
        assert running | verdict.missing.keys() == needs.keys()
        assert all(lack > 0 for lack in verdict.missing.values())
        for disk in disks:
            here = [who for who in running if disk in needs[who]]
            started = [who for who in verdict.start if disk in needs[who]]
            # nobody runs below the reserve, and who starts leaves it to all
            assert not here or free[disk] >= reserve
            if started:
                assert sum(needs[who][disk] for who in here) <= free[disk] - reserve
        for dip in verdict.began:
            assert dip.volume not in in_dip
            in_dip.add(dip.volume)
        for dip in verdict.ended:
            in_dip.remove(dip.volume)
        for who, lack in verdict.missing.items():
            assert in_dip & needs[who].keys(), f"{who} lacks {lack} and no dip was told"
    # in the end there is room for all
    for disk in disks:
        free[disk] = 10**12
    room.seen(dict(free), now + PAUSE_MOST_S)
    verdict = room.judge([Wish(who, who, need, who in running) for who, need in needs.items()])
    in_dip -= {dip.volume for dip in verdict.ended}
    assert running | set(verdict.start) == needs.keys()
    room.seen(dict(free), now + PAUSE_MOST_S + PROBATION_S)
    assert {dip.volume for dip in room.judge([]).ended} == in_dip
