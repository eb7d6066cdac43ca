"""A resume record's text by the quickest way: one line a value, as we write them.

A whole TOML parser is most of what reading ten thousand records takes (90 of 135 µs each). What is not as plain as it
comes out of our own hands is left to it: this gives the same or nothing.
"""

import functools
import re
import tomllib
from collections.abc import Set as AbstractSet
from typing import Any, Final

_FLOAT: Final = re.compile(r"(?:0|[1-9][0-9]*)\.[0-9]+")
DIGITS_AT_MOST: Final = 18
"""What fits 64 bits, which is all that TOML knows."""


def plain_table(text: str, keys: AbstractSet[str]) -> dict[str, Any] | None:
    """What `tomllib.loads` gives; None when it has to be asked. Nobody may change the lists in it."""
    table: dict[str, Any] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        key, between, told = line.partition(" = ")
        if key not in keys or key in table or not between or not told:
            if line:
                return None
            continue
        value: Any
        if told[0] == '"':
            value = told[1:-1]
            if len(told) < 2 or told[-1] != '"' or '"' in value or "\\" in value or not value.isprintable():
                return None
        elif told.isdecimal():
            if len(told) > DIGITS_AT_MOST or not told.isascii() or (told[0] == "0" and told != "0"):
                return None
            value = int(told)
        elif told in {"true", "false"}:
            value = told == "true"
        elif told == "[":
            rest = [told]
            for line in lines:
                rest.append(line)
                if line == "]":
                    break
            value = _array("\n".join(rest))
            if value is None:
                return None
        elif _FLOAT.fullmatch(told):
            value = float(told)
        else:
            return None
        table[key] = value
    return table


@functools.lru_cache(maxsize=256)
def _array(text: str) -> list[Any] | None:
    """Of trackers, say: thousands have the same."""
    try:
        table = tomllib.loads(f"x = {text}")
    except (ValueError, RecursionError):
        return None
    value = table["x"]
    return value if len(table) == 1 and isinstance(value, list) else None
