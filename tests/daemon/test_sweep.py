import math
import random

import pytest

from bittern.daemon.sweep import RETRY_S, Entry, FolderState, Identity, Listing, Stamp, Sweep, is_drop_name
from bittern.terms import InfoHash

A, B = InfoHash(b"a" * 20), InfoHash(b"b" * 20)
HERE = Identity(1, 100, 12345)
ELSEWHERE = Identity(2, 2, 23456)
AGELESS = Identity(1, 100)


def stamp(size=10, mtime=1, inode=1):
    return Stamp(size, mtime, inode)


def listing(*names, identity=HERE, kind="file", **stamps):
    entries = [Entry(name, kind, stamps.get(name.partition(".")[0], stamp())) for name in names]
    return Listing(identity, entries)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("a.torrent", True),
        ("A.TORRENT", True),
        ("a.b.Torrent", True),
        (".torrent", False),
        (".a.torrent", False),
        ("a.torrent.part", False),
        ("torrent", False),
        ("x\udcff.torrent", True),
    ],
)
def test_names(name, taken):
    assert is_drop_name(name) is taken


def test_a_new_file_is_looked_at_and_a_kept_one_never_again_while_unchanged():
    state = FolderState()
    assert state.sweep(listing("a.torrent"), {}, 0).look == ["a.torrent"]
    state.kept("a.torrent", stamp(), A)
    assert state.sweep(listing("a.torrent"), {}, 1).look == []
    assert state.next_at() == math.inf
    assert state.sweep(listing("a.torrent", a=stamp(size=11)), {}, 2).look == ["a.torrent"]
    assert state.sweep(listing("a.torrent", a=stamp(inode=2)), {}, 3).look == ["a.torrent"]


def test_a_short_file_is_listed_each_second_read_when_it_grew_and_refused_after_30_s_of_silence():
    state = FolderState()
    state.sweep(listing("a.torrent"), {}, 0)
    assert state.short("a.torrent", stamp(), 0) is False
    assert state.next_at() == 1
    for now in range(1, 20):
        assert state.sweep(listing("a.torrent"), {}, now).look == []
        assert state.next_at() == now + 1
    grown = stamp(size=20)
    assert state.sweep(listing("a.torrent", a=grown), {}, 20).look == ["a.torrent"]
    assert state.short("a.torrent", grown, 20) is False
    assert state.sweep(listing("a.torrent", a=grown), {}, 49).look == []
    assert state.sweep(listing("a.torrent", a=grown), {}, 50).look == ["a.torrent"]
    assert state.short("a.torrent", grown, 50) is True


def test_a_slow_writer_is_waited_for_as_long_as_it_writes():
    state = FolderState()
    for now in range(600):
        size = stamp(size=now)
        assert state.sweep(listing("a.torrent", a=size), {}, now).look == ["a.torrent"]
        assert state.short("a.torrent", size, now) is False


def test_any_other_fault_is_refused_after_two_equal_looks_a_second_apart():
    state = FolderState()
    state.sweep(listing("a.torrent"), {}, 0)
    assert state.faulty("a.torrent", stamp(), 0) is False
    assert state.next_at() == 1
    assert state.sweep(listing("a.torrent"), {}, 0.5).look == []
    assert state.sweep(listing("a.torrent"), {}, 1).look == ["a.torrent"]
    changed = stamp(mtime=2)
    assert state.faulty("a.torrent", changed, 1) is False
    assert state.sweep(listing("a.torrent", a=changed), {}, 2).look == ["a.torrent"]
    assert state.faulty("a.torrent", changed, 2) is True


def test_a_file_that_turns_from_short_to_faulty_starts_anew():
    state = FolderState()
    state.short("a.torrent", stamp(), 0)
    assert state.faulty("a.torrent", stamp(), 30) is False


def test_a_file_that_changes_under_the_reader_is_looked_at_a_second_later():
    state = FolderState()
    state.sweep(listing("a.torrent"), {}, 0)
    state.unsteady("a.torrent", 0)
    assert state.sweep(listing("a.torrent", a=stamp(size=99)), {}, 0.5).look == []
    assert state.sweep(listing("a.torrent", a=stamp(size=99)), {}, 1).look == ["a.torrent"]


def test_trouble_is_told_once_and_retried_ever_more_slowly_but_at_least_each_minute():
    state = FolderState()
    now = 0.0
    waits = []
    for number in range(7):
        assert state.sweep(listing("a.torrent"), {}, now).look == ["a.torrent"]
        assert state.trouble("a.torrent", stamp(), now) is (number == 0)
        waits.append(state.next_at() - now)
        assert state.sweep(listing("a.torrent"), {}, now + waits[-1] - 0.1).look == []
        now += waits[-1]
    assert waits == [*RETRY_S, 60.0, 60.0]


def test_odd_things_are_told_once_and_again_when_they_turn_into_something_else():
    state = FolderState()
    assert state.sweep(listing("a.torrent", kind="FIFO"), {}, 0).odd == [("a.torrent", "FIFO")]
    assert state.sweep(listing("a.torrent", kind="FIFO"), {}, 1).odd == []
    assert state.sweep(listing("a.torrent", kind="folder"), {}, 2).odd == [("a.torrent", "folder")]
    assert state.sweep(listing("a.torrent"), {}, 3).look == ["a.torrent"]


def test_what_left_the_folder_is_forgotten():
    state = FolderState()
    state.sweep(listing("a.torrent"), {}, 0)
    state.trouble("a.torrent", stamp(), 0)
    state.sweep(listing(), {}, 1)
    assert state.next_at() == math.inf
    assert state.sweep(listing("a.torrent"), {}, 2).look == ["a.torrent"]


# ---------------------------------------------------------------------------------------- tied files


def seen(tied, *names, identity=HERE, remembered=None):
    """A state in which those files were taken and seen."""
    state = FolderState(remembered=remembered)
    for name in names:
        state.sweep(listing(*names, identity=identity), {}, 0)
        state.kept(name, stamp(), *tied.get(name, ()))
    state.sweep(listing(*names, identity=identity), tied, 1)
    return state


def test_a_tied_file_is_gone_after_two_sweeps_a_second_apart():
    tied = {"a.torrent": (A,), "b.torrent": (B,)}
    state = seen(tied, "a.torrent", "b.torrent")
    assert state.sweep(listing("b.torrent"), tied, 10).gone == []
    assert state.next_at() == 11
    assert state.sweep(listing("b.torrent"), tied, 10.5).gone == []
    assert state.sweep(listing("b.torrent"), tied, 11).gone == [A]


def test_a_tied_file_that_is_back_in_time_is_not_gone():
    tied = {"a.torrent": (A,)}
    state = seen(tied, "a.torrent")
    state.sweep(listing(), tied, 10)
    state.sweep(listing("a.torrent"), tied, 10.5)
    assert state.sweep(listing(), tied, 20).gone == []
    assert state.sweep(listing(), tied, 21).gone == [A]


ABSENCES = {
    "away": lambda state, tied: state.away(),
    "bare mount point": lambda state, tied: [
        state.sweep(listing(identity=ELSEWHERE), tied, now).gone for now in range(10, 20)
    ],
    "made anew": lambda state, tied: [
        state.sweep(listing(identity=HERE._replace(born_ns=99)), tied, now).gone for now in range(10, 20)
    ],
}


@pytest.mark.parametrize("absence", ABSENCES)
@pytest.mark.parametrize("left", [["b.torrent"], []])
def test_what_was_deleted_while_the_folder_was_away_is_gone_when_it_is_back(absence, left):
    tied = {"a.torrent": (A,), "b.torrent": (B,)}
    state = seen(tied, "a.torrent", "b.torrent")
    assert not any(ABSENCES[absence](state, tied) or [])
    if left:
        state.sweep(listing(*left), tied, 29.9)  # read anew where another folder's listing came in between
        state.kept("b.torrent", stamp(), B)
    assert state.sweep(listing(*left), tied, 30).gone == []
    assert state.sweep(listing(*left), tied, 31).gone == ([A] if left else [A, B])


@pytest.mark.parametrize("absence", ABSENCES)
def test_without_a_time_of_birth_it_is_the_same_folder_only_if_a_file_in_it_is_the_same(absence):
    tied = {"a.torrent": (A,), "b.torrent": (B,)}
    for left, gone in (
        (listing("b.torrent", identity=AGELESS), [A]),
        (listing(identity=AGELESS), []),
        (listing("b.torrent", identity=AGELESS, b=stamp(inode=77)), []),
    ):
        state = seen(tied, "a.torrent", "b.torrent", identity=AGELESS)
        assert not any(ABSENCES[absence](state, tied) or [])
        for now in range(30, 40):
            plan = state.sweep(left, tied, now)
            if now == 31:
                assert plan.gone == gone
            for name in plan.look:
                state.kept(name, left.entries[0].stamp, B)


def test_a_file_is_missed_where_it_was_seen_last():
    tied = {"a.torrent": (A,)}
    state = seen(tied, "a.torrent")
    state.sweep(listing("a.torrent", identity=ELSEWHERE), tied, 10)
    assert state.home(tied) == ELSEWHERE
    for now in (20, 30):
        assert state.sweep(listing(), tied, now).gone == []
    state.sweep(listing(identity=ELSEWHERE), tied, 40)
    assert state.sweep(listing(identity=ELSEWHERE), tied, 41).gone == [A]


def test_a_file_that_is_gone_before_it_can_be_read_again_is_missed_all_the_same():
    tied = {"a.torrent": (A,)}
    state = seen(tied, "a.torrent")
    assert state.sweep(listing("a.torrent", a=stamp(mtime=9)), tied, 10).look == ["a.torrent"]
    state.left("a.torrent")
    state.sweep(listing(), tied, 11)
    assert state.sweep(listing(), tied, 12).gone == [A]


@pytest.mark.parametrize("absence", [None, "away", "bare mount point"])
def test_a_file_removed_while_we_were_down_is_gone_only_from_the_folder_we_knew(absence):
    tied = {"a.torrent": (A,)}
    for remembered, gone in (
        (HERE, [A]),
        (HERE._replace(device=77, born_ns=0), [A]),  # devices are renumbered; births were not noted at first
        (None, []),
        (HERE._replace(inode=4711), []),
        (HERE._replace(born_ns=4711), []),
    ):
        state = FolderState(remembered=remembered)
        if absence:
            assert not any(ABSENCES[absence](state, tied) or [])
        state.sweep(listing(), tied, 30)
        assert state.sweep(listing(), tied, 31).gone == gone


def test_the_one_folder_in_which_all_tied_files_were_seen():
    tied = {"a.torrent": (A,), "b.torrent": (B,)}
    assert FolderState().home(tied) is None
    state = FolderState(remembered=HERE)
    assert state.home(tied) == HERE._replace(device=-1)
    state.sweep(listing(identity=ELSEWHERE), tied, 0)
    assert state.home(tied) == HERE._replace(device=-1)
    state.sweep(listing("a.torrent", identity=ELSEWHERE), tied, 1)
    assert state.home(tied) is None
    state.sweep(listing("a.torrent", "b.torrent", identity=ELSEWHERE), tied, 2)
    assert state.home(tied) == ELSEWHERE


def test_which_files_are_tied_may_be_known_later_than_the_first_sweep():
    state = FolderState(remembered=HERE)
    assert state.sweep(listing(), {}, 0).gone == []
    state.sweep(listing(), {"a.torrent": (A,)}, 1)
    assert state.sweep(listing(), {"a.torrent": (A,)}, 2).gone == [A]


def test_a_tied_file_that_only_got_a_new_name_is_not_gone():
    tied = {"a.torrent": (A,)}
    state = seen(tied, "a.torrent")
    assert state.sweep(listing("new.torrent"), tied, 10).gone == []
    state.kept("new.torrent", stamp(), A)
    for now in (11, 12, 13):
        assert state.sweep(listing("new.torrent"), tied, now).gone == []
    assert state.sweep(listing(), tied, 14).gone == []
    assert state.sweep(listing(), tied, 15).gone == [A]


def test_a_renamed_file_of_links_is_not_gone_while_it_is_waited_for():
    state = FolderState()
    tied = {"a.magnet": (A,)}
    state.sweep(listing("a.magnet"), {}, 0)
    state.kept("a.magnet", stamp(), A)
    state.sweep(listing("a.magnet"), tied, 1)
    assert state.sweep(listing("b.magnet"), tied, 2).look == ["b.magnet"]
    # its verdict comes with the second look, which is due a moment after the sweep that misses the old name
    assert not state.faulty("b.magnet", stamp(), 2.01)
    assert state.sweep(listing("b.magnet"), tied, 3).gone == []
    plan = state.sweep(listing("b.magnet"), tied, 3.01)
    assert (plan.look, plan.gone) == (["b.magnet"], [])
    assert state.faulty("b.magnet", stamp(), 3.01)
    state.kept("b.magnet", stamp(), A)
    assert state.sweep(listing("b.magnet"), tied, 5).gone == []
    state.sweep(listing(), tied, 6)
    assert state.sweep(listing(), tied, 7).gone == [A]


def test_a_renamed_file_that_is_then_replaced_is_soon_gone():
    tied = {"a.torrent": (A,)}
    state = seen(tied, "a.torrent")
    state.sweep(listing("b.torrent"), tied, 10)
    state.kept("b.torrent", stamp(), A)
    assert state.sweep(listing("b.torrent"), tied, 11).gone == []
    assert state.next_at() == math.inf
    other = stamp(mtime=2)
    assert state.sweep(listing("b.torrent", b=other), tied, 20).look == ["b.torrent"]
    state.kept("b.torrent", other, B)
    tied["b.torrent"] = (B,)
    assert state.next_at() == 21
    assert state.sweep(listing("b.torrent", b=other), tied, 21).gone == []
    assert state.sweep(listing("b.torrent", b=other), tied, 22).gone == [A]


def test_random_walks_keep_the_promises():
    """Nothing unchanged is looked at twice without need; nobody is gone who was there a second ago."""
    for seed in range(200):
        rng = random.Random(seed)
        state = FolderState()
        stamps: dict[str, Stamp] = {}
        last_there: dict[str, float] = {}
        kept: dict[str, Stamp] = {}
        now = 0.0
        identity = HERE
        for _ in range(60):
            now += rng.choice([0.01, 0.5, 1.0, 7.0])
            name = rng.choice(["a.torrent", "b.torrent"])
            match rng.randrange(5):
                case 0:
                    stamps[name] = Stamp(rng.randrange(3), 0, 0)
                case 1:
                    stamps.pop(name, None)
                case 2 if rng.random() < 0.2:
                    identity = Identity(1, rng.randrange(3), rng.randrange(2))
                case 3 if rng.random() < 0.2:
                    state.away()
                    last_there.clear()
                    continue
            tied = {name: (InfoHash(name[0].encode() * 20),) for name in kept}
            plan = state.sweep(Listing(identity, [Entry(n, "file", s) for n, s in stamps.items()]), tied, now)
            for gone in plan.gone:
                name = gone[:1].decode() + ".torrent"
                assert name not in stamps
                assert now - last_there[name, identity] >= 1.0
            for name in stamps:
                last_there[name, identity] = now
            for name in plan.look:
                assert kept.get(name) != stamps[name]
                if rng.random() < 0.5:
                    state.kept(name, stamps[name], InfoHash(name[0].encode() * 20))
                    kept[name] = stamps[name]
                else:
                    state.trouble(name, stamps[name], now)
                    kept.pop(name, None)
            for name in kept.keys() - stamps.keys():
                del kept[name]


def test_a_sweep_of_10_000_known_files_does_no_more_than_compare():
    names = [f"{n}.torrent" for n in range(10_000)]
    state = FolderState()
    first = listing(*names)
    assert len(state.sweep(first, {}, 0).look) == 10_000
    for name in names:
        state.kept(name, stamp())
    assert state.sweep(first, {}, 1).look == []


def test_a_listing_that_comes_again_is_nothing_new():
    state = FolderState()
    state.sweep(listing("a.torrent", "b.torrent"), {}, 0)
    state.kept("a.torrent", stamp(), A)
    state.kept("b.torrent", stamp(), B)
    same = listing("a.torrent", "b.torrent")
    for now in (1, 2, 3):
        assert state.sweep(same, {}, now) == Sweep()
        assert state.next_at() == math.inf
    # what is tied is looked for each time, and what happens in between counts
    assert state.sweep(same, {"c.torrent": (A,)}, 4).gone == []
    state.short("a.torrent", stamp(), 5)
    assert state.sweep(same, {}, 5) == Sweep()
    assert state.next_at() == 5 + 1
    state.left("a.torrent")
    assert state.sweep(same, {}, 6).look == ["a.torrent"]
    state.kept("a.torrent", stamp(), A)
    assert state.sweep(same, {}, 7) == Sweep()
    state.away()
    assert state.sweep(listing(), {}, 8) == Sweep()
    assert state.sweep(same, {}, 9).look == ["a.torrent", "b.torrent"]
