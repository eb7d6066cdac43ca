"""A leecher that throws away what it gets, as fast as Python can: a seeder's speed without a client's in its way.

Run by its path, so it knows nothing of bittern. Arguments: host, port, info hash, bytes in all, piece length, and
for how many seconds at most. It prints one JSON object: `began` (connected) and `ended` by the monotonic clock, the
`blocks` that came, `cpu_s`, and `arrivals`: pairs of a time and the body bytes that had come by then, at least 5 ms
apart.
"""

import json
import socket
import struct
import sys
import time

BLOCK = 16384
IN_FLIGHT = 256
CHOKE, UNCHOKE, INTERESTED, REQUEST, PIECE = 0, 1, 2, 6, 7


def requests(total, piece_length):
    """All of them, one behind the other: 17 bytes each."""
    found = bytearray()
    for at in range(0, total, BLOCK):
        index, begin = divmod(at, piece_length)
        found += struct.pack(">IBIII", 13, REQUEST, index, begin, min(BLOCK, total - at))
    return bytes(found)


def greet(peer, info_hash):
    peer.sendall(b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-RL0000-raw-leecher!")
    peer.sendall(struct.pack(">IB", 1, INTERESTED))
    theirs = b""
    while len(theirs) < 68:
        theirs += peer.recv(68 - len(theirs))


def run(host, port, info_hash, total, piece_length, longest_s):
    wanted = requests(total, piece_length)
    count = len(wanted) // 17
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    peer = socket.create_connection((host, port))
    began = time.monotonic()
    greet(peer, info_hash)
    peer.settimeout(120)
    asked = blocks = bodies = 0
    choked = True
    arrivals = [(began, 0)]
    kept, skip, ended = 0, 0, began
    while blocks < count and ended - began < longest_s:
        got = peer.recv_into(view[kept:])
        if not got:
            raise SystemExit("the seeder has hung up")
        ended = time.monotonic()
        until, at = kept + got, skip
        # Messages are walked by their lengths; a body is skipped, here or in what comes next.
        while at + 5 <= until:
            length, kind = struct.unpack_from(">IB", buffer, at)
            if length == 0:
                at += 4
                continue
            if kind == PIECE:
                blocks += 1
                bodies += length - 9
            elif kind == UNCHOKE:
                choked = False
            elif kind == CHOKE:
                raise SystemExit("choked")
            at += 4 + length
        if at >= until:
            skip, kept = at - until, 0
        else:
            kept, skip = until - at, 0
            view[:kept] = view[at:until]
        if not choked and asked < min(count, blocks + IN_FLIGHT // 2):
            more = min(count, blocks + IN_FLIGHT)
            peer.sendall(wanted[17 * asked : 17 * more])
            asked = more
        if ended - arrivals[-1][0] >= 0.005:
            arrivals.append((ended, bodies))
    return {
        "began": began,
        "ended": ended,
        "blocks": blocks,
        "cpu_s": time.process_time(),
        "arrivals": arrivals,
    }


def main():
    host, port, info_hash, total, piece_length, longest_s = sys.argv[1:]
    told = run(host, int(port), bytes.fromhex(info_hash), int(total), int(piece_length), float(longest_s))
    print(json.dumps(told))


main()
