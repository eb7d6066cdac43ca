"""Every packet that a host sends or gets, taken down by the kernel: what went out of it, and what was in it."""

import ipaddress
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Self

from tests.fakes.lan import Host

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
PACKET_OUTGOING = 4
TCP, UDP = 6, 17
BUFFER_BYTES = 64 << 20


@dataclass(frozen=True)
class Packet:
    """One of TCP or UDP; `outgoing`: from that host."""

    protocol: int
    source: tuple[str, int]
    to: tuple[str, int]
    payload: bytes
    sequence: int = 0
    outgoing: bool = True


class Capture:
    """Listens while it is entered, on all interfaces of that host but loopback."""

    def __init__(self, host: Host) -> None:
        with host:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        # beyond what the machine allows (33 = SO_RCVBUFFORCE): none may be lost
        self._socket.setsockopt(socket.SOL_SOCKET, 33, BUFFER_BYTES)
        self._socket.settimeout(0.05)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._packets: list[Packet] = []
        self.others = 0
        """Frames that carried neither TCP nor UDP."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self._thread.join()
        # struct tpacket_stats: packets, and those that found no room
        _, lost = struct.unpack("II", self._socket.getsockopt(263, 6, 8))
        self._socket.close()
        assert kind or not lost, "packets were lost"

    def _run(self) -> None:
        while True:
            try:
                frame, about = self._socket.recvfrom(1 << 17)
            except TimeoutError:
                if self._over.is_set():
                    return
                continue
            if about[0] == "lo":
                continue  # it does not leave
            packet = parse(frame, outgoing=about[2] == PACKET_OUTGOING)
            if packet is None:
                self.others += 1
            else:
                self._packets.append(packet)

    def mark(self) -> int:
        """How many there are now."""
        return len(self._packets)

    def sent(self, protocol: int, since: int = 0, until: int | None = None) -> list[Packet]:
        """What went out."""
        return [one for one in self._packets[since:until] if one.outgoing and one.protocol == protocol]

    def streams(self) -> dict[tuple[tuple[str, int], tuple[str, int]], bytes]:
        """What went out by TCP, put together, by both ends of the connection."""
        parts: dict[tuple[tuple[str, int], tuple[str, int]], dict[int, bytes]] = {}
        for one in self.sent(TCP):
            if one.payload:
                kept = parts.setdefault((one.source, one.to), {})
                if len(one.payload) > len(kept.get(one.sequence, b"")):
                    kept[one.sequence] = one.payload
        return {ends: _together(of_one) for ends, of_one in parts.items()}


def _together(parts: dict[int, bytes]) -> bytes:
    """(Of a few MiB at most: sequence numbers do not wrap around.)"""
    first = min(parts)
    whole = bytearray()
    for at, part in sorted(parts.items()):
        whole[at - first : at - first + len(part)] = part
    return bytes(whole)


def parse(frame: bytes, *, outgoing: bool) -> Packet | None:
    [kind] = struct.unpack_from(">H", frame, 12)
    packet = frame[14:]
    if kind == ETH_P_IP:
        protocol, start = packet[9], (packet[0] & 0xF) * 4
        hosts = packet[12:16], packet[16:20]
        end = int.from_bytes(packet[2:4]) or len(packet)
    elif kind == ETH_P_IPV6:
        protocol, start = packet[6], 40
        hosts = packet[8:24], packet[24:40]
        end = 40 + int.from_bytes(packet[4:6]) if packet[4:6] != b"\0\0" else len(packet)
    else:
        return None
    if protocol not in (TCP, UDP):
        return None
    ports = struct.unpack_from(">HH", packet, start)
    source, to = ((str(ipaddress.ip_address(host)), port) for host, port in zip(hosts, ports, strict=True))
    body = packet[start:end]
    if protocol == UDP:
        return Packet(UDP, source, to, body[8:], 0, outgoing)
    return Packet(TCP, source, to, body[(body[12] >> 4) * 4 :], int.from_bytes(body[4:8]), outgoing)
