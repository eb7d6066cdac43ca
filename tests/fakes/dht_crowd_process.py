"""Many of our own DHT nodes in one process, on real UDP sockets of loopback: a network to be found in.

Arguments: how many, the `host:port` that introduces them all, a folder. One line on standard output when each knows
somebody; it ends when standard input does.
"""

import random
import sys
from pathlib import Path

import trio

from bittern.discovery.dht import Dht
from bittern.net.udp import Udp


class Numeric:
    async def lookup(self, host: str) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return (host,)


async def main(count: int, introducer: str, folder: Path) -> None:
    host, _, port = introducer.rpartition(":")
    made = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            udp = Udp(
                [f"127.0.{1 + number // 200}.{1 + number % 200}"],
                lambda: 0,
                taken=lambda reason: sys.exit(reason),
            )
            await nursery.start(udp.run)
            dht = Dht(
                udp,
                Numeric(),
                families=(4,),
                port=lambda: 0,
                routers=[(host, int(port))],
                state=folder / f"{number}.toml",
                rng=random.SystemRandom(),
            )
            await nursery.start(dht.run)
            made.append(dht)
        while not all(len(dht.nodes[4].table) > 8 for dht in made):
            await trio.sleep(0.05)
        print("ready", flush=True)
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


trio.run(main, int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
