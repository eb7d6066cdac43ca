"""Where one of several jobs in a thread may be broken, and the others are not to pay for it.

Beside `engine/supervision.py` the only broad `except`: supervision contains what runs on the loop, this what shares a
thread hop with others.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from bittern.errors import BitternError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class JobCrashed(Exception):
    """A bug in one job; its cause is what the job raised. No error of ours, so supervision ranks it as a bug."""


def attempt(fn: Callable[[*Ts], T], *args: *Ts) -> T | JobCrashed:
    """What `fn` returns; errors of ours are raised as ever, a bug is returned."""
    try:
        return fn(*args)
    except BitternError:
        raise
    except Exception as error:
        crashed = JobCrashed(repr(error))
        crashed.__cause__ = error
        return crashed
