import trio

from bittern.net.transport import RECEIVE_BUFFER_BYTES, receive_buffer


async def test_loops_in_two_threads_do_not_receive_into_the_same_buffer():
    ours = receive_buffer()
    assert receive_buffer() is ours
    assert len(ours) == RECEIVE_BUFFER_BYTES
    theirs = await trio.to_thread.run_sync(receive_buffer)
    assert theirs.obj is not ours.obj
