"""`{name}` and its like inside a hook's arguments and what a webhook is sent.

Never near a shell, so nothing that stands in a name can become a command.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from bittern.daemon.config_reader import nearest
from bittern.errors import BitternError

PLACEHOLDERS: Final = (
    "name",
    "path",
    "dir",
    "info_hash",
    "label",
    "labels",
    "watch",
    "event",
    "reason",
    "size_bytes",
    "free_bytes",
    "needed_bytes",
)
"""Those that an event does not know are empty."""

_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{|[^{}]+|\}")


class PlaceholderError(BitternError):
    """An argument with a brace that means nothing; the message is one clause on what, one on what to do."""


class Part(NamedTuple):
    """A stretch of an argument: literal text, or what to put there."""

    text: str
    placeholder: bool


def parse_argument(argument: str) -> list[Part]:
    """`{{` and `}}` stand for single braces; a lone closing one for itself."""
    parts: list[Part] = []
    for match in _PIECES.finditer(argument):
        text = match.group()
        name = match.group(1)
        if name is not None:
            if name not in PLACEHOLDERS:
                raise PlaceholderError(_unknown(name))
            parts.append(Part(name, placeholder=True))
        elif text == "{":
            raise PlaceholderError('a "{" is never closed: write "{{" for a plain brace')
        else:
            parts.append(Part({"{{": "{", "}}": "}"}.get(text, text), placeholder=False))
    return parts


def fill(text: str, values: Mapping[str, str]) -> str:
    """A checked text with its placeholders replaced; it stays one argument or one string whatever is put in."""
    return "".join(
        values.get(part.text, "") if part.placeholder else part.text for part in parse_argument(text)
    )


def _unknown(name: str) -> str:
    meant = nearest(name, PLACEHOLDERS)
    advice = (
        f'did you mean "{{{meant}}}"?'
        if meant
        else f"known are {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)};"
    )
    return f'unknown placeholder "{{{name}}}", {advice} Write "{{{{" for a plain brace'
