"""Writing TOML: tomli-w's door."""

from collections.abc import Mapping

import tomli_w


def dump_toml(table: Mapping[str, object]) -> bytes:
    """The table as a file's bytes."""
    return tomli_w.dumps(table).encode()
