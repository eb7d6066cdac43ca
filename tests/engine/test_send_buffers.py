"""Send buffers are kept for those who come next, and not for ever."""

from bittern.engine.uploads import SEND_BUFFER_BYTES, SendBuffers


def test_those_that_are_in_use_stay_and_the_others_go_one_by_one() -> None:
    buffers = SendBuffers()
    for buffer in [buffers.borrow() for _ in range(30)]:
        buffers.give_back(buffer)
    assert buffers.kept_bytes == SendBuffers.KEPT * SEND_BUFFER_BYTES
    buffers.trim()
    assert buffers.kept_bytes == SendBuffers.KEPT * SEND_BUFFER_BYTES, "they were needed just now"
    for left in (15, 14):
        buffers.trim()
        assert buffers.kept_bytes == left * SEND_BUFFER_BYTES
    for _ in range(40):
        some = [buffers.borrow() for _ in range(10)]
        for buffer in some:
            buffers.give_back(buffer)
        buffers.trim()
    assert buffers.kept_bytes == 10 * SEND_BUFFER_BYTES
    for _ in range(11):
        buffers.trim()
    assert buffers.kept_bytes == 0
