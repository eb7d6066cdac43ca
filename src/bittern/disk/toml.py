"""Writing TOML: tomli-w's door. And texts in it that are no UTF-8, as paths may be."""

import base64
import functools
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from math import isfinite
from typing import cast

import tomli_w


def dump_toml(table: Mapping[str, object]) -> bytes:
    """The table as a file's bytes."""
    return tomli_w.dumps(table).encode()


def dump_lines(table: Mapping[str, object], common: AbstractSet[str]) -> bytes:
    """The same of texts, numbers and booleans, by bare keys. The writer looks at each letter: of a resume record
    100 µs, and it takes 20. How a line of the `common` keys reads, which are the same in thousands of tables, is
    remembered; of the others those with nothing to escape are put down as they are.
    """
    return "".join(
        [
            remembered_lines(key, value) if key in common else _plain_line(key, value)
            for key, value in table.items()
        ]
    ).encode()


def _plain_line(key: str, value: object) -> str:
    kind = type(value)
    if kind is str:
        text = cast("str", value)
        if text.isprintable() and '"' not in text and "\\" not in text:
            return f'{key} = "{text}"\n'
    elif kind is int or (kind is float and isfinite(cast("float", value))):
        return f"{key} = {value}\n"
    return tomli_w.dumps({key: value})


@functools.lru_cache(maxsize=256, typed=True)
def remembered_lines(key: str, value: object) -> str:
    """One key and its value, which can be hashed."""
    return tomli_w.dumps({key: value})


def dump_text(text: str) -> str | dict[str, str]:
    """As a value."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"base64": base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()}
    return text


def load_text(value: str | Mapping[str, str]) -> str:
    """The reverse; `ValueError`, `KeyError` or `TypeError` for anything else."""
    if isinstance(value, str):
        return value
    return base64.b64decode(value["base64"]).decode("utf-8", "surrogateescape")
