"""What comes round comes round together: an idle process wakes once a second, and not once for each of its services.

To wake costs more than what is done then: the code has left the processor's caches, and it is read back once.
"""

import trio


def beat_at(every_s: float) -> float:
    """The clock's next whole multiple of `every_s`: all who sleep until then wake in one turn of the loop."""
    now = trio.current_time()
    at = (now // every_s + 1) * every_s
    # of fractions of a second the next multiple may be rounded down to this very moment
    return at if at > now else at + every_s


async def next_beat(every_s: float) -> None:
    """Sleeps until then: between two beats lie `every_s`, however long what is done at each takes."""
    await trio.sleep_until(beat_at(every_s))
