"""What was measured, by row and contender, on the disk after each run: a benchmark of an hour loses nothing when it is
stopped, and goes on where it was.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.report import Run, Verdict, medians


class LedgerUnfit(Exception):
    """The file cannot be gone on with; says why, and what to do."""


class Ledger:
    """All rows. `terms` are what figures of one file have in common."""

    def __init__(self, path: Path | None, terms: Mapping[str, object], *, go_on: bool) -> None:
        self._path = path
        self._told: dict[str, Any] = {
            **terms,
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "rows": {},
            "faults": [],
        }
        if path is None or not path.exists():
            return
        if not go_on:
            raise LedgerUnfit(
                f"{path} is there already: --go-on goes on with it; or remove it, or name another"
            )
        try:
            told = json.loads(path.read_text())
            others = [key for key in terms if told[key] != terms[key]]
            rows = {
                name: {key: row[key] for key in ("medians", "verdicts", "runs", "left_out")}
                for name, row in told["rows"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LedgerUnfit(f"{path} holds no figures of this kind: remove it, or name another") from None
        if others:
            what = ", ".join(f"{key} {told[key]!r}, now {terms[key]!r}" for key in others)
            raise LedgerUnfit(f"{path} was measured otherwise ({what}): remove it, or name another")
        self._told["rows"] = rows

    def rows(self) -> list[str]:
        return list(self._told["rows"])

    def runs(self, row: str) -> dict[str, list[Run]]:
        """By contender; of whom there is none as yet is not among them."""
        found: dict[str, list[Run]] = self._row(row)["runs"]
        return found

    def left_out(self, row: str) -> dict[str, str]:
        """Who was, and why."""
        found: dict[str, str] = self._row(row)["left_out"]
        return found

    def note(self, row: str, name: str, run: Run) -> None:
        self._row(row)["runs"][name] = [run]
        self._row(row)["left_out"].pop(name, None)
        self._write()

    def leave_out(self, row: str, name: str, reason: str) -> None:
        self._row(row)["left_out"][name] = reason
        self._write()

    def judged(self, row: str, verdicts: list[Verdict], faults: list[str]) -> None:
        """All of a row's contenders have been seen to."""
        self._row(row)["medians"] = medians(self.runs(row))
        self._row(row)["verdicts"] = [asdict(verdict) for verdict in verdicts]
        self._told["faults"] += faults
        self._write()

    @property
    def faults(self) -> list[str]:
        found: list[str] = self._told["faults"]
        return found

    def _row(self, name: str) -> Any:
        empty = {"medians": {}, "verdicts": [], "runs": {}, "left_out": {}}
        return self._told["rows"].setdefault(name, empty)

    def _write(self) -> None:
        if self._path is not None:
            half = self._path.with_name(self._path.name + ".half")
            half.write_text(json.dumps(self._told, indent=2) + "\n")
            half.replace(self._path)
