"""Tests against real programs: what is absent fails on CI, and is skipped loudly on a user's machine."""

import os
import shutil

import pytest


def need(*programs: str, root: bool = False) -> None:
    """Every program (a name on PATH, or a path) must be there, and we must be root where that is asked."""
    lacking = [program for program in programs if shutil.which(program) is None]
    if root and os.geteuid() != 0:
        lacking.append("root")
    if not lacking:
        return
    reason = f"NOT TESTED: this test needs {', '.join(lacking)}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
