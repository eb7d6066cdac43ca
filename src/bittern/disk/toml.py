"""Writing TOML: tomli-w's door. And texts in it that are no UTF-8, as paths may be."""

import base64
import functools
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import tomli_w


def dump_toml(table: Mapping[str, object]) -> bytes:
    """The table as a file's bytes."""
    return tomli_w.dumps(table).encode()


def dump_lines(table: Mapping[str, object], common: AbstractSet[str]) -> bytes:
    """The same of texts, numbers and booleans, of which those of the `common` keys are the same in thousands of tables:
    how such a line reads is remembered, for the writer looks at each letter (of a resume record 100 µs, and takes 55).
    """
    own = {key: value for key, value in table.items() if key not in common}
    # none of these values takes more than a line
    lines = iter(tomli_w.dumps(own).split("\n"))
    return "".join(
        [
            remembered_lines(key, value) if key in common else f"{next(lines)}\n"
            for key, value in table.items()
        ]
    ).encode()


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
