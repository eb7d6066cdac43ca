"""A flood of datagrams at one DHT node, from a hundred endpoints of loopback.

Arguments: `ask` (proper queries) or `flood` (forged ids, tokens and answers, bencode bombs, garbage), the port, how
many a second. Queries that come are answered with nodes that are all ourselves. It ends when standard input does, with
a line of JSON: datagrams sent and answers got. Knows nothing of bittern.
"""

import json
import os
import random
import select
import socket
import struct
import sys
import time

HOST = "127.0.0.1"
rng = random.Random(1)


def text(value: bytes) -> bytes:
    return b"%d:%b" % (len(value), value)


def query(method: bytes, words: bytes) -> bytes:
    return b"d1:ad2:id20:" + rng.randbytes(20) + words + b"e1:q" + text(method) + b"1:t2:aa1:y1:qe"


def proper() -> bytes:
    if rng.random() < 0.5:
        return query(b"find_node", b"6:target20:" + rng.randbytes(20))
    return query(b"get_peers", b"9:info_hash20:" + rng.randbytes(20))


def selves(addresses: list[tuple[str, int]]) -> bytes:
    return b"".join(
        rng.randbytes(20) + socket.inet_aton(host) + struct.pack(">H", port)
        for host, port in rng.sample(addresses, 8)
    )


def answer(transaction: bytes, addresses: list[tuple[str, int]]) -> bytes:
    told = b"2:id20:" + rng.randbytes(20) + b"5:nodes" + text(selves(addresses)) + b"5:token4:oops"
    return b"d1:rd" + told + b"e1:t" + text(transaction) + b"1:y1:re"


def forged(addresses: list[tuple[str, int]]) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
        return query(b"ping", b"")
    if kind == 1:
        token = b"5:token" + text(rng.randbytes(8))
        return query(b"announce_peer", b"9:info_hash20:" + rng.randbytes(20) + b"4:porti7e" + token)
    if kind == 2:
        return answer(rng.randbytes(rng.randrange(1, 5)), addresses)
    if kind == 3:
        return b"d1:a" + b"l" * rng.randrange(1, 1400)
    if kind == 4:
        return b"d1:ai" + b"9" * 1400 + b"e"
    if kind == 5:
        return b"d" + b"".join(b"4:%04d0:" % number for number in range(150)) + b"e"
    if kind == 6:
        return rng.randbytes(rng.randrange(1, 1400))
    return proper()


def main(mode: str, port: int, per_s: float) -> None:
    os.nice(5)
    sockets = []
    for number in range(100):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setblocking(False)
        one.bind((f"127.9.{number}.1", 0))
        sockets.append(one)
    addresses = [one.getsockname() for one in sockets]
    made = [proper() if mode == "ask" else forged(addresses) for _ in range(2000)]
    poll = select.epoll()
    by_number = {one.fileno(): one for one in sockets}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLHUP | select.EPOLLIN)
    sent = answered = 0
    began = time.monotonic()
    while True:
        while sent < (time.monotonic() - began) * per_s:
            try:
                rng.choice(sockets).sendto(made[sent % len(made)], (HOST, port))
            except OSError:
                pass
            sent += 1
        for number, _ in poll.poll(0.002):
            one = by_number.get(number)
            if one is None:
                seconds = time.monotonic() - began
                print(json.dumps({"sent": sent, "answered": answered, "seconds": seconds}), flush=True)
                return
            try:
                datagram, source = one.recvfrom(2048)
            except OSError:
                continue
            if b"1:y1:r" in datagram:
                answered += 1
            at = datagram.find(b"1:t")
            if b"1:y1:q" in datagram and at >= 0:
                length, _, rest = datagram[at + 3 :].partition(b":")
                one.sendto(answer(rest[: int(length)], addresses), source)


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
