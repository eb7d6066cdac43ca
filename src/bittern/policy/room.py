"""Who gives way when the house is full and somebody knocks: those who are there for nothing, the most useless first.

Who moves blocks, in either direction, never gives way. Everybody else may stay for a while, which is the longer the
more it is our doing or the nature of things that nothing moves: a peer that waits for its turn with us is no idler,
one that neither has nor wants anything is.
"""

from typing import Final

NOTHING_S: Final = 3.0
"""It neither wants anything nor has anything for us: a peer says so at once, or a round trip later."""

PROOF_S: Final = 8.0
"""It owes us blocks, or may take some, and never yet a block went over the connection."""

BROKEN_S: Final = 20.0
"""The same of one that owes us for too long, or was of use before."""

CHOKES_S: Final = 60.0
"""It has what we want and does not let us have it: six rounds of choking, two optimistic turns."""

WAITS_S: Final = 120.0
"""It wants something of a complete torrent, and we do not let it: it waits for its turn. While we need others ourselves
one that only wants has no more time than one that is to prove itself."""

PROVEN_FACTOR: Final = 5
"""Who was of use before may be again."""


def uselessness(
    *,
    idle_s: float,
    proven: bool,
    wants: bool,
    takes: bool | None,
    has: bool,
    owes: bool,
    seeding: bool,
) -> float:
    """1 and more: gives way; the more the sooner.

    `idle_s`: since blocks went over the connection, or since it was made. `wants`: it is interested; `takes`: it makes
    use of its turns, None while that is not known. `has`: we are interested; `owes`: it was asked for blocks.
    `seeding`: our torrent is complete.
    """
    late_s = BROKEN_S if proven else PROOF_S
    limits = [NOTHING_S]
    if has:
        limits.append(late_s if owes else CHOKES_S)
    if wants:
        limits.append(WAITS_S if seeding and takes is not False else late_s)
    return idle_s / (max(limits) * (PROVEN_FACTOR if proven else 1))
