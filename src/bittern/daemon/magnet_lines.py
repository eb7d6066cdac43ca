"""The lines of a .magnet."""

from typing import Final

MAX_LINES: Final = 50_000
"""Each that is no link has a line in the log, and 8 MiB may have four million."""


def too_many_lines(blob: bytes) -> bool:
    """More than `MAX_LINES`."""
    return blob.count(b"\n") + blob.count(b"\r") > 2 * MAX_LINES or len(blob.splitlines()) > MAX_LINES


def magnet_lines(blob: bytes) -> dict[int, str]:
    """The lines of a .magnet that are to be links, by their numbers: not those that are empty or comments."""
    found = {}
    for number, line in enumerate(blob.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        text = line.decode("utf-8", "replace").strip()
        if text and not text.startswith("#"):
            found[number] = text
    return found
