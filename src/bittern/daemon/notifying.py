"""One event as a message to a person: mail, chat, phone. apprise's door; it is an extra (`bittern[notify]`)."""

import importlib.util
import logging
from functools import partial
from typing import Final

import trio

from bittern.daemon.process import Ended, Patience
from bittern.disk.attempt import JobCrashed, attempt

AT_ONCE: Final = 8
"""Threads that services may hold. One that never ends keeps its thread, and the disk and the watchdog have theirs."""

_threads: Final = trio.CapacityLimiter(AT_ONCE)


def available() -> bool:
    """Is the library there?"""
    return importlib.util.find_spec("apprise") is not None


async def notify_of(url: str, title: str, body: str, *, timeout_s: float, patience: Patience) -> Ended:
    """Told when the service took it; else `exit_status` is 1. A service that hangs is left to its thread."""
    began = trio.current_time()
    error = f"no answer within {timeout_s:g} s"
    with patience.allow(timeout_s) as scope:
        error = await trio.to_thread.run_sync(
            partial(_notify, url, title, body.strip()), abandon_on_cancel=True, limiter=_threads
        )
    return Ended(
        exit_status=1 if error else 0,
        seconds=trio.current_time() - began,
        timed_out=scope.cancelled_caught and not patience.stopping,
        stopped=scope.cancelled_caught and patience.stopping,
        error=error,
    )


def _notify(url: str, title: str, body: str) -> str:
    """In a thread: what went wrong, or nothing."""
    try:
        import apprise
    except ImportError:
        return "apprise is not installed: pip install 'bittern[notify]'"
    # It logs URLs, and those hold passwords.
    logging.getLogger("apprise").disabled = True
    service = apprise.Apprise()
    # its plugins speak to all the world, and what they raise may quote the URL
    added = attempt(service.add, url)
    if isinstance(added, JobCrashed):
        return _tripped(added)
    if not added:
        return "not a URL that apprise knows"
    taken = attempt(partial(service.notify, title=title, body=body or title))
    if isinstance(taken, JobCrashed):
        return _tripped(taken)
    return "" if taken else "the service did not take it"


def _tripped(crashed: JobCrashed) -> str:
    return f"apprise tripped over it ({type(crashed.__cause__).__name__})"
