"""Tests against real programs: what is absent fails on CI, and is skipped loudly on a user's machine."""

import os
import shutil
from pathlib import Path

import pytest


def need(*programs: str, root: bool = False) -> None:
    """Every program (a name on PATH, or a path; also a device) must be there, and we root where that is asked."""
    lacking = [one for one in programs if shutil.which(one) is None and not Path(one).is_char_device()]
    if root and os.geteuid() != 0:
        lacking.append("root")
    if lacking:
        _not_tested(", ".join(lacking))


def _not_tested(lacking: str) -> None:
    reason = f"NOT TESTED: this test needs {lacking}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
