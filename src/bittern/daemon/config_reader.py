"""From TOML tables to frozen structs, key by key, so that one fault does not hide the next."""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec

from bittern.daemon.durations import Duration, parse_duration
from bittern.daemon.modes import (
    FileMode,
    FolderMode,
    Group,
    Umask,
    parse_file_mode,
    parse_folder_mode,
    parse_group,
    parse_umask,
)
from bittern.daemon.sizes import Rate, Size, parse_rate, parse_size

T = TypeVar("T", bound=msgspec.Struct)


SECRET_KEYS: Final = frozenset({"url", "urls", "headers"})
HIDDEN: Final = "something else, which may be secret"
"""Faults are logged, and such values may hold passwords."""


CREDENTIALS: Final = "$CREDENTIALS_DIRECTORY/"


_MODES: Final[Mapping[type, Callable[[object], object]]] = {
    FileMode: parse_file_mode,
    FolderMode: parse_folder_mode,
    Umask: parse_umask,
    Group: parse_group,
}


class Folder(str):
    """An absolute, normalised path, or "" where none is set."""

    __slots__ = ()


class Faults:
    """What is wrong with one file, a line each: `FILE: key.path: what is wrong, and what to do`."""

    def __init__(self, source: str) -> None:
        self.source = one_line(source)
        self.lines: list[str] = []

    def add(self, where: str, sentence: str) -> None:
        """`where` "" = the file as a whole."""
        place = f"{self.source}: {where}" if where else self.source
        self.lines.append(f"{place}: {one_line(sentence)}")


def one_line(text: str) -> str:
    """Printable, without line breaks, whatever was in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def read_table(kind: type[T], table: object, where: str, base: Path, faults: Faults) -> T | None:
    """None when it is no table or lacks a required key; any other fault falls back to the default."""
    if not isinstance(table, dict):
        faults.add(where, f"got {_shown_of(kind, table)}: write it as a table, [{where}]")
        return None
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    complete = True
    for key, raw in table.items():
        field = fields.get(key)
        path = _joined(where, key)
        if field is None:
            faults.add(path, _unknown(key, where, fields))
            continue
        row = _row_type(field.type)
        if row is not None:
            values[field.name] = _read_rows(row, raw, path, base, faults)
        elif _is_struct(field.type):
            section = read_table(field.type, raw, path, base, faults)
            if section is not None:
                values[field.name] = section
        else:
            try:
                values[field.name] = _convert(raw, field.type, base)
            except msgspec.ValidationError as error:
                shown = HIDDEN if key in SECRET_KEYS else None
                faults.add(path, _refused(raw, field.type, str(error), shown))
                complete = complete and not field.required
    for name, field in fields.items():
        if field.required and name not in table:
            faults.add(_joined(where, name), f"missing: write {_description(field.type)}")
            complete = False
    return kind(**values) if complete else None


def _read_rows(row: type[T], raw: object, where: str, base: Path, faults: Faults) -> tuple[T, ...]:
    if not isinstance(raw, list):
        faults.add(where, f"got {_shown_of(row, raw)}: write each one as its own table, [[{where}]]")
        return ()
    rows = (read_table(row, one, f"{where}[{number}]", base, faults) for number, one in enumerate(raw))
    return tuple(one for one in rows if one is not None)


def _convert(raw: object, kind: object, base: Path) -> object:
    def own_type(wanted: type, value: object) -> object:
        if wanted is Size:
            return parse_size(value)
        if wanted is Duration:
            return parse_duration(value)
        if wanted is Rate:
            return parse_rate(value)
        if wanted in _MODES:
            return _MODES[wanted](value)
        return _parse_folder(value, base)

    return msgspec.convert(raw, kind, strict=True, dec_hook=own_type)


def _parse_folder(value: object, base: Path) -> Folder:
    if not isinstance(value, str):
        raise ValueError("not a path")  # noqa: TRY004 — msgspec reports a ValueError as this key's fault
    if "\0" in value:
        raise ValueError("a path has no NUL in it")
    if value == "~" or value.startswith("~/"):
        raise ValueError('"~" is not expanded here')
    if value.startswith(CREDENTIALS):
        # what systemd hands over (LoadCredential=) lies where only it knows
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        if not given:
            raise ValueError("systemd has given no credentials: write LoadCredential= in its unit")
        return Folder(os.path.normpath(given + "/" + value.removeprefix(CREDENTIALS)))
    return Folder(os.path.normpath(base / value) if value else "")


def _refused(raw: object, kind: object, told: str, shown: str | None = None) -> str:
    """A clause on what is wrong, then the key's own description of what is right; `shown` stands for the value."""
    options = list(_options(kind))
    wrong = [
        one
        for one in (raw if isinstance(raw, list) else [raw])
        if isinstance(one, str) and one not in options
    ]
    meant = nearest(wrong[0], options) if options and wrong else None
    if meant is not None:
        return f'{_shown(wrong[0])} is unknown, did you mean "{meant}"? Write {_description(kind)}'
    # msgspec's own sentences speak of types; those of our parsers speak of the value.
    own = not re.match(r"Expected |Invalid ", told)
    got = shown or _shown(raw)
    reason = f"{re.sub(r' - at `.*`$', '', told)} (got {got})" if own else f"got {got}"
    return f"{reason}: write {_description(kind)}"


def _unknown(key: str, where: str, fields: Mapping[str, Any]) -> str:
    meant = nearest(key, fields)
    here = f"[{where}]" if where else "the top of the file"
    if meant is not None:
        return f'unknown key, did you mean "{meant}"? Correct or remove it'
    return f"unknown key: remove it, or use one of those that {here} knows: {', '.join(sorted(fields))}"


def _options(kind: object) -> Iterator[str]:
    """The strings that a type names one by one."""
    for argument in get_args(kind):
        if isinstance(argument, str):
            yield argument
        elif get_args(argument):
            yield from _options(argument)


def _description(kind: object) -> str:
    for note in getattr(kind, "__metadata__", ()):
        if isinstance(note, msgspec.Meta) and note.description:
            return note.description
    raise TypeError(f"{kind} says nowhere what it may hold")


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _row_type(kind: object) -> type[msgspec.Struct] | None:
    """`Row` of `tuple[Row, ...]`."""
    arguments = get_args(kind)
    return arguments[0] if get_origin(kind) is tuple and _is_struct(arguments[0]) else None


def _joined(where: str, key: str) -> str:
    shown = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key[:60], ensure_ascii=False)
    return one_line(f"{where}.{shown}" if where else shown)


def _shown_of(kind: type[msgspec.Struct], raw: object) -> str:
    """What stands where such a table is wanted: perhaps what was to be in it."""
    return HIDDEN if SECRET_KEYS.intersection(kind.__struct_fields__) else _shown(raw)


def _shown(raw: object) -> str:
    """As it would stand in the file, cut short."""
    text = json.dumps(raw, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
