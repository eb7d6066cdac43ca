"""A local network: hosts in network namespaces of their own, all at one bridge. For root only."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from tests.fakes.need import need

CLONE_NEWNET = 0x40000000
V4, V6 = "10.98.0.{}", "fd98::{}"
SWITCH = 200
"""Of the bridge's own address: whoever listens there is at the middle, and hears all that is sent to everybody."""


def _libc(call: str, *words: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), call)(*words):
        raise OSError(ctypes.get_errno(), call)


@dataclass
class Host:
    """What is started while it is entered lives there for good."""

    v4: str
    v6: str
    namespace: int
    _home: int = -1

    def __enter__(self) -> Self:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _libc("setns", self.namespace, CLONE_NEWNET)
        return self

    def __exit__(self, *_: object) -> None:
        _libc("setns", self._home, CLONE_NEWNET)
        os.close(self._home)

    def run(self, words: str) -> None:
        with self:
            subprocess.run(words.split(), check=True, capture_output=True)


def _make_host(number: int) -> Host:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _libc("unshare", CLONE_NEWNET)
        try:
            namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            _libc("setns", home, CLONE_NEWNET)
    finally:
        os.close(home)
    host = Host(V4.format(number), V6.format(number), namespace)
    host.run("ip link set lo up")
    # else an address of IPv6 is of no use for its first seconds
    with host, open("/proc/sys/net/ipv6/conf/default/accept_dad", "w") as setting:
        setting.write("0")
    return host


def _address(host: Host, device: str, families: Sequence[int]) -> None:
    if 4 in families:
        host.run(f"ip address add {host.v4}/24 dev {device}")
    if 6 in families:
        host.run(f"ip address add {host.v6}/64 dev {device} nodad")
    host.run(f"ip link set {device} up")


@contextlib.contextmanager
def lan(count: int, *, families: Sequence[int] = (4, 6)) -> Iterator[tuple[Host, list[Host]]]:
    """The switch, and `count` hosts with `eth0` each. The namespaces have no names: without processes they are gone."""
    need("ip", root=True)
    made: list[Host] = []
    try:
        switch = _make_host(SWITCH)
        made.append(switch)
        switch.run("ip link add br0 type bridge mcast_snooping 0")
        _address(switch, "br0", families)
        for number in range(1, count + 1):
            host = _make_host(number)
            made.append(host)
            there = f"/proc/{os.getpid()}/fd/{host.namespace}"
            switch.run(f"ip link add port{number} type veth peer name eth0 netns {there}")
            switch.run(f"ip link set port{number} master br0 up")
            _address(host, "eth0", families)
        yield switch, made[1:]
    finally:
        for host in made:
            os.close(host.namespace)


P = TypeVar("P", bound=AbstractContextManager[Any])


@contextlib.contextmanager
def running(program: P, host: Host) -> Iterator[P]:
    """A process on that host; whoever started it stays where it is."""
    with contextlib.ExitStack() as stack:
        with host:
            stack.enter_context(program)
        yield program
