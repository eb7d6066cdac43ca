"""What a process has used, from /proc."""

import os
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [one for child in children.read_text().split() for one in tree(int(child))]
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, its living children, and those that it has reaped."""
    ticks = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            if one == pid:
                raise
            continue  # a hook that has just ended
        ticks += sum(map(int, fields[11:15] if one == pid else fields[11:13]))
    return ticks / _TICK


def peak_rss_bytes(pid: int) -> int:
    """The most that was ever resident, file pages included."""
    [line] = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) * 1024


def machine_cpu_seconds() -> float:
    """What everything on the machine has used since it was switched on."""
    with open("/proc/stat") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:9]]
    return (sum(ticks[:3]) + sum(ticks[5:])) / _TICK


def connected(port: int) -> bool:
    """Is there an established IPv4 connection with this local port?"""
    mark = f":{port:04X}"
    with open("/proc/net/tcp") as table:
        next(table)
        return any(
            line[3] == "01" and (line[1].endswith(mark) or line[2].endswith(mark))
            for line in (row.split() for row in table)
        )


GIB = 1 << 30
TAIL_S = 0.5
"""CPU time is taken so long after the end: what is finished behind it belongs to the work."""


class Meter:
    """CPU time and memory of a process over one transfer; made right before it begins."""

    def __init__(self, pid: int, *others: int, together: bool = False) -> None:
        """`others` are the other side: their CPU time is shown apart, or `together` with the first's."""
        self._pid, self._others, self._together = pid, others, together
        self._before = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        others = sum(map(cpu_seconds, self._others))
        return cpu_seconds(self._pid), others, machine_cpu_seconds(), time.process_time()

    def read(self, began: float, ended: float, size: int) -> dict[str, float]:
        """Those times by the monotonic clock; `size` in bytes."""
        time.sleep(max(0.0, ended + TAIL_S - time.monotonic()))
        own, other, machine, mine = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        found = {
            "seconds": ended - began,
            "mb_per_s": size / 1e6 / (ended - began),
            "cpu_s_per_gib": (own + other if self._together else own) * GIB / size,
            "peak_rss_mib": peak_rss_bytes(self._pid) / (1 << 20),
            "strange_cpu_s": max(0.0, machine - own - other - mine),
        }
        if self._others and not self._together:
            found["other_cpu_s_per_gib"] = other * GIB / size
        return found
