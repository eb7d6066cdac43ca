"""Long work on the loop in short turns, and its answer in short parts: peers wait meanwhile."""

import json
import time
from typing import Any, Final

import trio

TURN_S: Final = 0.005
LONG: Final = 1000
"""Elements of a list that are encoded in one go: the encoder lets no other thread run meanwhile."""


class Turns:
    """Of one piece of work."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def next(self) -> None:
        """Lets others run if this one has had its turn."""
        if time.perf_counter() - self._began > TURN_S:
            await trio.lowlevel.checkpoint()
            self._began = time.perf_counter()


def is_long(value: object) -> bool:
    """Is that for a thread to encode?"""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(one, list) and len(one) > LONG for one in inner)


def text_of(value: Any) -> str:
    """As `json.dumps`, long lists in parts; for a thread."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)}: {text_of(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list) and len(value) > LONG:
        parts = (json.dumps(value[start : start + LONG])[1:-1] for start in range(0, len(value), LONG))
        return f"[{', '.join(parts)}]"
    if isinstance(value, list) and is_long(value):
        return f"[{', '.join(map(text_of, value))}]"
    return json.dumps(value)
