"""Writing TOML: tomli-w's door. And texts in it that are no UTF-8, as paths may be."""

import base64
from collections.abc import Mapping

import tomli_w


def dump_toml(table: Mapping[str, object]) -> bytes:
    """The table as a file's bytes."""
    return tomli_w.dumps(table).encode()


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
