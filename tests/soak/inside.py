"""bittern, and in its process somebody who counts what memory is in use.

    python inside.py SOCKET run --config FILE

Resident memory also tells of what was free in between. Who connects to the socket and says `figures` is told what is
in use, to the byte; `leak N` loses so many bytes a minute from then on, half of them in small objects.
"""

import ctypes
import gc
import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path


class MallocFigures(ctypes.Structure):
    """glibc's mallinfo2: the mapped ones are not among those in use."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "mapped", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "in_use", "fordblks", "keepcost")),
    ]


def figures() -> dict[str, int]:
    """Bytes in small objects, which Python keeps house over, and in what the C library gave."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return {"small_bytes": 0, "large_bytes": 0}
    libc.mallinfo2.restype = MallocFigures
    found = libc.mallinfo2()
    return {"small_bytes": small_bytes(), "large_bytes": found.in_use + found.mapped}


def small_bytes() -> int:
    """Python tells it to standard error, and to nobody else."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as told:
        os.dup2(told.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        told.seek(0)
        found = re.search(rb"bytes in allocated blocks\s*=\s*([\d,]+)", told.read())
    return int(found[1].replace(b",", b"")) if found else 0


def leak(bytes_a_minute: int) -> None:
    lost: list[object] = []
    while True:
        lost.append(os.urandom(bytes_a_minute // 120))
        lost.extend(os.urandom(95) for _ in range(bytes_a_minute // 120 // 136))
        time.sleep(1)


def serve(path: str) -> None:
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            client, _ = server.accept()
            with client:
                word, _, more = client.recv(1000).decode().partition(" ")
                if word == "leak":
                    threading.Thread(target=leak, args=(int(more),), daemon=True).start()
                client.sendall(json.dumps(figures()).encode())


if __name__ == "__main__":
    from bittern.cli.main import main

    threading.Thread(target=serve, args=(sys.argv.pop(1),), daemon=True).start()
    main()
