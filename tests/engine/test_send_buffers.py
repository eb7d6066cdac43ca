"""Send buffers are kept for those who come next, and not for ever."""

from bittern.engine.uploads import BATCH_REQUESTS, HEADERS_BYTES, SEND_BUFFER_BYTES, SendBuffers
from bittern.terms import BLOCK_SIZE


def test_those_that_are_in_use_stay_and_the_others_go_one_by_one() -> None:
    buffers = SendBuffers()
    for buffer in [buffers.borrow(BATCH_REQUESTS) for _ in range(30)]:
        buffers.give_back(buffer)
    assert buffers.kept_bytes == SendBuffers.KEPT * SEND_BUFFER_BYTES
    buffers.trim()
    assert buffers.kept_bytes == SendBuffers.KEPT * SEND_BUFFER_BYTES, "they were needed just now"
    for left in (15, 14):
        buffers.trim()
        assert buffers.kept_bytes == left * SEND_BUFFER_BYTES
    for _ in range(40):
        some = [buffers.borrow(BATCH_REQUESTS) for _ in range(10)]
        for buffer in some:
            buffers.give_back(buffer)
        buffers.trim()
    assert buffers.kept_bytes == 10 * SEND_BUFFER_BYTES
    for _ in range(11):
        buffers.trim()
    assert buffers.kept_bytes == 0


def test_who_asks_for_little_gets_a_small_one_unless_another_is_there() -> None:
    buffers = SendBuffers()
    for requests in range(1, SendBuffers.FEW + 1):
        small = buffers.borrow(requests)
        assert len(small) == requests * BLOCK_SIZE + HEADERS_BYTES
        buffers.give_back(small)
    assert buffers.kept_bytes == 0
    large = buffers.borrow(SendBuffers.FEW + 1)
    assert len(large) == SEND_BUFFER_BYTES
    buffers.give_back(large)
    assert len(buffers.borrow(1)) == SEND_BUFFER_BYTES


def test_small_ones_are_not_lent_in_place_of_large_ones() -> None:
    buffers = SendBuffers()
    small = [buffers.borrow(1) for _ in range(SendBuffers.LENT_AT_MOST + 1)]
    assert len(buffers.borrow(BATCH_REQUESTS)) == SEND_BUFFER_BYTES
    for one in small:
        buffers.give_back(one)
    lent = [buffers.borrow(BATCH_REQUESTS) for _ in range(SendBuffers.LENT_AT_MOST)]
    assert len(lent[-2]) == SEND_BUFFER_BYTES
    assert len(lent[-1]) == BLOCK_SIZE + HEADERS_BYTES
