"""From runs to medians, ratios and verdicts; tables of them, and of two commits. Pure: numbers in, text out."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "bittern"

Run = dict[str, Any]
"""Figures by name, and `right`: were the bytes that arrived the right ones?"""
Medians = Mapping[str, Mapping[str, float]]
"""By contender, then by figure."""

HEADS = {
    "mb_per_s": "MB/s",
    "up_mb_per_s": "up MB/s",
    "from_drop_mb_per_s": "from the drop",
    "seed_in_s": "seed let in s",
    "leecher_in_s": "leecher served s",
    "banned": "banned",
    "cpu_s_per_gib": "CPU-s/GiB",
    "peak_rss_mib": "RSS MiB",
    "to_completed_s": "to completed s",
    "checked_in_s": "checked in s",
    "other_cpu_s_per_gib": "peer's CPU",
    "overhead_percent": "overhead %",
    "seconds": "s",
    "duplicate_percent": "duplicates %",
    "waste_percent": "waste %",
    "answers_per_s": "answers/s",
    "cpu_percent": "CPU %",
    "cpu_ms_per_announce": "CPU ms/announce",
    "announces_per_s": "announces/s",
    "gb_per_s": "GB/s",
    "first_request_ms": "first request ms",
    "hook_ms": "hook ms",
    "deviation_percent": "over 10 s: off %",
    "worst_second_percent": "worst 1 s: off %",
    "of_machine": "of cores x SHA-1",
    "strange_cpu_s": "strangers' CPU s",
    "taken_in_s": "dropped to announced s",
    "rss_mib": "RSS MiB",
    "kib_per_torrent": "KiB each",
    "idle_cpu_percent": "idle CPU %",
    "parked_ms": "parked: first block ms",
    "stop_s": "stop s",
    "told_stopped": "told stopped",
    "handshake_s": "restart: handshake s",
    "loaded_s": "loaded s",
    "announced_s": "announced s",
    "restart_rss_mib": "RSS MiB",
    "restart_kib_per_torrent": "KiB each",
}
"""Column heads; what has none here is in the JSON only."""


@dataclass(frozen=True)
class Target:
    """A bound on one of our figures: absolute, or times the best of those whose names begin with `against`."""

    key: str
    bound: float
    against: str = ""
    """"libtorrent": the better of its settings, figure by figure. "*": the best of all others."""
    at_most: bool = False
    fails_at: float | None = None
    """Where the benchmark calls it broken; half of a wanted speed if nothing is said."""

    def __str__(self) -> str:
        than = (
            "" if not self.against else " x the best other" if self.against == "*" else f" x {self.against}"
        )
        return f"{HEADS.get(self.key, self.key)} {'<=' if self.at_most else '>='} {self.bound:g}{than}"


@dataclass(frozen=True)
class Verdict:
    """What came of a target; `got` is None where there was nothing to compare with."""

    text: str
    got: float | None
    met: bool
    broken: bool

    @property
    def word(self) -> str:
        return "met" if self.met else "no figure" if self.got is None else "NOT MET"


def medians(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, float]]:
    """Of every figure that all runs of a contender have; one that failed has none, and is not counted."""
    whole = {name: [run for run in of_one if "failed" not in run] for name, of_one in runs.items()}
    return {
        name: {
            key: statistics.median(run[key] for run in of_one)
            for key, value in of_one[0].items()
            if isinstance(value, int | float) and key != "right" and all(key in run for run in of_one)
        }
        for name, of_one in whole.items()
        if of_one
    }


def best_of_others(found: Medians, key: str, against: str, *, lowest: bool) -> float | None:
    others = [
        figures[key]
        for name, figures in found.items()
        if name != OURS and key in figures and (against == "*" or name.startswith(against))
    ]
    return (min if lowest else max)(others, default=None)


def judge(found: Medians, target: Target) -> Verdict:
    got: float | None = found.get(OURS, {}).get(target.key)
    if got is not None and target.against:
        best = best_of_others(found, target.key, target.against, lowest=target.at_most)
        got = got / best if best else None
    if got is None:
        return Verdict(str(target), None, met=False, broken=False)
    if target.at_most:
        broken = target.fails_at is not None and got > target.fails_at
        return Verdict(str(target), got, got <= target.bound, broken)
    fails_at = target.bound / 2 if target.fails_at is None else target.fails_at
    return Verdict(str(target), got, got >= target.bound, got < fails_at)


def faults(name: str, runs: Mapping[str, Sequence[Run]], verdicts: Iterable[Verdict]) -> list[str]:
    """What makes the benchmark fail: a run that failed, wrong bytes, or far below what is expected."""
    wrong = [
        f"{name}: {who}: {run.get('failed', 'a payload is wrong')}"
        for who, of_one in runs.items()
        for run in of_one
        if not run["right"]
    ]
    return wrong + [f"{name}: {one.text}, got {one.got:.2f}: far from it" for one in verdicts if one.broken]


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def row_text(title: str, found: Medians, verdicts: Sequence[Verdict], count: int) -> str:
    """A table of the contenders, our ratio to the better libtorrent under it, and the targets."""
    keys = [key for key in HEADS if any(key in figures for figures in found.values())]
    lines = [["", *(HEADS[key] for key in keys)]]
    lines += [[name, *(number(figures.get(key)) for key in keys)] for name, figures in found.items()]
    if len(found) > 1 and OURS in found:
        ratios: list[float | None] = []
        for key in keys:
            lowest = key not in {"mb_per_s", "from_drop_mb_per_s", "gb_per_s"}
            best, ours = best_of_others(found, key, "*", lowest=lowest), found[OURS].get(key)
            ratios.append(ours / best if best and ours is not None else None)
        lines.append(["ours / best other", *map(number, ratios)])
    text = [f"{title}   (medians of {count})", *("  " + line for line in _table(lines))]
    text += [f"  {one.word:9}  {one.text}: {number(one.got)}" for one in verdicts]
    return "\n".join(text)


def summary_text(verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """All targets of all rows, one a line."""
    lines = [["row", "target", "got", ""]]
    lines += [
        [name, one.text, number(one.got), one.word] for name, of_row in verdicts.items() for one in of_row
    ]
    return "\n".join(_table(lines))


def comparison(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Ratios of two result files: ours, and beside it the others', which say how far the machine has drifted."""
    lines = [["", before["commit"], after["commit"], "ratio", "others' ratio"]]
    for name, row in after["rows"].items():
        if name not in before["rows"]:
            continue
        old, new = before["rows"][name]["medians"], row["medians"]
        for key in HEADS:
            if not all(key in found.get(OURS, {}) for found in (old, new)):
                continue
            drifts = [
                new[who][key] / old[who][key]
                for who in new
                if who != OURS and key in new[who] and old.get(who, {}).get(key)
            ]
            was, now = old[OURS][key], new[OURS][key]
            lines.append(
                [
                    f"{name}: {HEADS[key]}",
                    number(was),
                    number(now),
                    number(now / was if was else None),
                    number(statistics.fmean(drifts) if drifts else None),
                ]
            )
    return "\n".join(_table(lines))
