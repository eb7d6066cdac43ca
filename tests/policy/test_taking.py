"""What a peer made of its chances to download: situations and what is thought of it."""

from bittern.policy.taking import (
    ANSWER_S,
    PAUSE_S,
    REPEATS_AT_MOST,
    TRIAL_BYTES,
    TRIAL_S,
    TRIED_AGAIN_S,
    UNREAD_S,
    Taking,
)


def tick(taking: Taking, now: float, *, waiting: bool = False, unread: int = 0) -> bool:
    return taking.tick(now, waiting=waiting, unread_bytes=unread)


def test_who_does_not_ask_is_tried_again_later() -> None:
    taking = Taking()
    taking.may(10)
    assert not tick(taking, 10 + ANSWER_S - 0.1)
    assert taking.takes(10 + ANSWER_S - 0.1) is None
    assert tick(taking, 10 + ANSWER_S)
    assert taking.takes(10 + ANSWER_S) is False
    taking.may_not(15, by_itself=False)
    assert taking.concerns_us
    again = 10 + ANSWER_S + TRIED_AGAIN_S
    assert not tick(taking, again - 0.1)
    assert tick(taking, again)
    assert taking.takes(again) is None


def test_who_says_that_it_wants_nothing_after_all_did_not_ask() -> None:
    taking = Taking()
    taking.may(0)
    taking.may_not(1, by_itself=True)
    assert taking.takes(1) is False
    other = Taking()
    other.may(0)
    other.may_not(1, by_itself=False)
    assert other.takes(1) is None


def test_who_asks_and_reads_takes() -> None:
    quick, slow = Taking(), Taking()
    for taking in (quick, slow):
        taking.may(0)
        taking.asked(0.5)
    quick.handed_bytes = TRIAL_BYTES + 1000
    assert not tick(quick, 1, unread=1001)
    assert tick(quick, 2, unread=1000)
    assert quick.takes(2) is True
    slow.handed_bytes = 50_000
    for second in range(1, int(TRIAL_S) + 1):
        tick(slow, second, waiting=True, unread=50_000 - 1000 * second)
        assert slow.takes(second) is (None if second < TRIAL_S else True)


def test_who_pauses_for_long_does_not_take_but_not_while_we_make_it_wait() -> None:
    taking = Taking()
    taking.may(0)
    taking.asked(1)
    for second in range(2, 100):
        tick(taking, second, waiting=True)
    assert taking.takes(99) is True
    tick(taking, 100 + PAUSE_S)
    assert taking.takes(100 + PAUSE_S) is False
    taking.asked(120)
    tick(taking, 121)
    assert taking.takes(121) is True


def test_who_does_not_read_takes_nothing_until_it_reads_again() -> None:
    taking = Taking()
    taking.may(0)
    for _ in range(100):
        taking.asked(0)
    taking.handed_bytes = 200_000
    tick(taking, 1, waiting=True, unread=150_000)
    for second in range(2, 20):
        tick(taking, second, waiting=True, unread=150_000)
        assert taking.reads(second) is (second < 2 + UNREAD_S)
    taking.may_not(19, by_itself=False)
    assert taking.takes(19) is False
    tick(taking, 20, unread=149_000)
    assert taking.reads(20)


def test_who_wants_the_same_again_and_again_takes_nothing() -> None:
    honest, nuisance = Taking(), Taking()
    for taking in (honest, nuisance):
        taking.may(0)
        for _ in range(REPEATS_AT_MOST + 1):
            taking.asked(1)
            taking.repeated()
    assert not honest.repeats  # a piece was bad
    nuisance.repeated()
    assert nuisance.repeats
    assert nuisance.takes(2) is False
