"""How bytes go into a file at the least cost of the kernel's memory, which is the dearest part of a download.

The kernel copies what is written into its page cache. Memory that nobody has used for a while is cold, and in a virtual
machine often has to come from the host first: 1 GiB of it costs 0.2 to 3 CPU-seconds, where all the rest of a download
costs 1.5. So what nobody will read soon goes through a little memory that is used again and again.
"""

import os
from typing import Final

RWF_DONTCACHE: Final = 0x80
"""`os` does not know it yet. The kernel (since Linux 6.14, and if the file system can, as ext4, XFS and btrfs) sends
what is written to the disk at once, and its memory is free for what is written next: 0.4 to 0.6 CPU-seconds for each
GiB whatever the machine did before, and the sync that follows has next to nothing left to do.
"""

UNKEPT_BYTES: Final = 64 * 1024
"""Less is not worth a request of its own to the disk: for 16 KiB it costs three times as much as a write that stays in
memory, from 64 KiB on less.
"""

WRITE_BYTES: Final = 16 * 1024
"""What one call writes of what stays in memory. The kernel takes one stretch of memory for each, as long as it is, and
long stretches are the ones that nobody has used for longest. Filling the page cache with 1 GiB takes 0.35-1.1 s so; a
MiB at a time 0.2 s at best and 2-3 s on a VM that rested for a few seconds.
"""


def write_at(fd: int, body: memoryview, offset: int, *, kept: bool) -> None:
    """Writes all of it. `kept`: it is to stay in the page cache, because somebody will read it soon. `OSError`."""
    if not kept:
        while len(body) >= UNKEPT_BYTES:
            try:
                done = os.pwritev(fd, [body], offset, RWF_DONTCACHE)
            except OSError:
                break  # mostly EOPNOTSUPP; if it is anything else, the usual way will say so
            offset += done
            body = body[done:]
    while body:
        done = os.pwrite(fd, body[:WRITE_BYTES], offset)
        offset += done
        body = body[done:]
