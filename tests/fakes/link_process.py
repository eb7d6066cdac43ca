"""A long wire: two network namespaces, a TUN device in each, and this process in between.

Run by its path, as root. Arguments: the round trip in seconds, bits a second, seconds of packets that a queue holds
before it drops, what of /proc/sys/net/ipv4 differs from the machine's (JSON), a host address for each end. Standard
output is one line, JSON: the descriptors of the two namespaces. It ends when its standard input does, and both go
with it.

The devices take part in segmentation offload: the kernel hands over up to 64 KiB at a time, with a header that says
how to cut them, and takes them back uncut on the other side. So the MTU stays what it is in the world, and Python
moves more than a gigabit a second. On the wire they count as the frames that they stand for.
"""

import ctypes
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

CLONE_NEWNET = 0x40000000
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4 = 0x01, 0x02

HEADER = struct.Struct("=BBHHHH")
"""virtio_net_hdr: flags, kind of segmentation, bytes of headers, of payload a segment, checksum's place."""
LARGEST = HEADER.size + 65535

FRAME_BYTES = 38
"""Ethernet around each packet: preamble, addresses, type, checksum, gap."""

EARLY_S = 0.0002
"""What is due so soon goes at once: it saves waking up again."""


class Direction:
    """Packets from one device to the other. Times are those of the monotonic clock."""

    def __init__(self, source, target, delay_s, bytes_per_s, queue_s):
        self.source, self.target = source, target
        self.delay_s, self.bytes_per_s, self.queue_s = delay_s, bytes_per_s, queue_s
        self.under_way = deque()
        self.free_at = 0.0
        """When the wire has taken what was given to it so far."""

    def take(self):
        while True:
            try:
                packet = os.read(self.source, LARGEST)
            except BlockingIOError:
                return
            now = time.monotonic()
            begins = max(now, self.free_at)
            if begins - now <= self.queue_s:
                self.free_at = begins + wire_bytes(packet) / self.bytes_per_s
                self.under_way.append((self.free_at + self.delay_s, packet))

    def deliver(self):
        """Gives the time of the next."""
        under_way = self.under_way
        until = time.monotonic() + EARLY_S
        while under_way and under_way[0][0] <= until:
            os.write(self.target, under_way.popleft()[1])
        return under_way[0][0] if under_way else None


def wire_bytes(packet):
    """Of all the frames that it is cut into."""
    _, kind, headers, segment, _, _ = HEADER.unpack_from(packet)
    length = len(packet) - HEADER.size
    if not kind:
        return length + FRAME_BYTES
    segments = -(-(length - headers) // segment)
    return length - headers + segments * (headers + FRAME_BYTES)


def make_end(name, address, settings):
    """A namespace of its own, which this process is in from now on; gives its descriptor and the device's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
    for setting, value in settings.items():
        Path("/proc/sys/net/ipv4", setting).write_text(value)
    for words in (
        "link set lo up",
        f"address add {address}/24 dev {name.decode()}",
        f"link set {name.decode()} txqueuelen 10000 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY), device


def main(round_trip_s, bits_per_s, queue_s, settings, *addresses):
    os.setpriority(os.PRIO_PROCESS, 0, -15)  # a wire does not wait for a processor
    ends = [make_end(b"wire", address, json.loads(settings)) for address in addresses]
    (_, near), (_, far) = ends
    terms = (float(round_trip_s) / 2, float(bits_per_s) / 8, float(queue_s))
    both = {near: Direction(near, far, *terms), far: Direction(far, near, *terms)}
    print(json.dumps([namespace for namespace, _ in ends]), flush=True)
    while True:
        due = [at for at in [direction.deliver() for direction in both.values()] if at is not None]
        wait_s = max(0.0, min(due) - time.monotonic()) if due else None
        ready, _, _ = select.select([sys.stdin, *both], [], [], wait_s)
        for one in ready:
            if one is sys.stdin:
                return  # nobody writes to it: that is its end
            both[one].take()


main(*sys.argv[1:])
