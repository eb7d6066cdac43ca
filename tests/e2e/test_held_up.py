"""How long a program was kept from running: by that tests judge it on a machine where others are at work."""

import os
from pathlib import Path

import pytest

from tests.fakes.processes import Program


class _Ourselves(Program):
    @property
    def pid(self) -> int:
        return os.getpid()


def test_threads_that_wait_at_the_same_time_are_held_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _Ourselves(tmp_path)
    before = program.waits_s()
    assert str(os.getpid()) in before
    assert program.held_up_s(before) >= 0
    monkeypatch.setattr(program, "waits_s", lambda: {"1": 4.0, "2": 7.0, "3": 1.5})
    assert program.held_up_s({"1": 1.0, "2": 5.0, "4": 9.0}) == 3.0
    monkeypatch.setattr(program, "waits_s", dict)
    assert program.held_up_s(before) == 0, "it has ended"
