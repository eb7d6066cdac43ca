"""Numbers for people."""

from typing import Final

SIZES: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """Bytes, in the units that pieces are made of."""
    shown, unit = float(count), 0
    while shown >= 1024 and unit < len(SIZES) - 1:
        shown /= 1024
        unit += 1
    return f"{shown:.1f} {SIZES[unit]}" if unit else f"{round(shown)} bytes"


def rate(per_s: float) -> str:
    """Bytes a second; nothing where nothing moves."""
    return f"{size(per_s)}/s" if per_s else ""


def duration(seconds: float | None) -> str:
    """The two largest units of a time that matter; nothing for none."""
    if seconds is None:
        return ""
    left = round(seconds)
    parts: list[str] = []
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= unit or (unit == 1 and not parts):
            parts.append(f"{left // unit} {letter}")
            left %= unit
        elif parts:
            break
    return " ".join(parts[:2])
