"""Two connections to what says it is one peer: which stays.

A peer id is no proof of anything: whoever has met a peer can copy its id. So a connection from another host never
ends one that stands, whatever id it brings. From the same host both ends keep the one that the greater id opened; they
come to that without a word between them.

Both ends may dial each other at the same moment, and either may see the other under two hosts (two lines, IPv4 and
IPv6). If each refused its own dial because it had accepted the other's, nothing would be left: so then, too, the ids
decide, and only the smaller one gives up its own.
"""

import enum
from typing import Final

CROSSING_S: Final = 20.0
"""As long as a dial and its handshake may take: an older connection did not come at the same moment."""


class Double(enum.Enum):
    """What becomes of a newcomer with an id that is connected already."""

    REFUSE = "refuse the newcomer"
    REPLACE = "close the one that stands"
    KEEP_BOTH = "keep both"


def judge(
    *,
    outbound: bool,
    other_outbound: bool,
    same_host: bool,
    ours_is_greater: bool,
    other_useful: bool,
    other_age_s: float,
) -> Double:
    """`outbound`: we dialled the newcomer; `other_…`: of the connection that stands, `useful` when blocks went over it.

    One from elsewhere that brought nothing keeps nobody out either: it may have come only for that.
    """
    crossing = outbound and not other_outbound
    if same_host:
        if outbound == other_outbound or outbound != ours_is_greater:
            return Double.REFUSE
        return Double.REPLACE
    if crossing and ours_is_greater:
        return Double.KEEP_BOTH
    if other_useful or (crossing and other_age_s < CROSSING_S):
        return Double.REFUSE
    return Double.KEEP_BOTH
