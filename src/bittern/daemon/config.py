"""The TOML file: one frozen `Config`, or a `ConfigError` that lists every fault at once.

The file is only ever read.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from bittern.daemon.config_reader import Faults, Folder, read_table
from bittern.daemon.config_rules import judge
from bittern.daemon.config_schema import (
    Config,
    Control,
    Hook,
    HookEvent,
    Hooks,
    Limits,
    Log,
    Network,
    Notify,
    Paths,
    Queue,
    Scrub,
    Seed,
    SeedGuard,
    Storage,
    Watch,
    Web,
    Webhook,
)
from bittern.engine.settings import LIVE_KEYS, Settings
from bittern.errors import ConfigError

__all__ = [
    "Config",
    "Control",
    "Hook",
    "HookEvent",
    "Hooks",
    "Limits",
    "Log",
    "Network",
    "Notify",
    "Paths",
    "Queue",
    "Scrub",
    "Seed",
    "SeedGuard",
    "Storage",
    "Watch",
    "Web",
    "Webhook",
    "changes",
    "default_config",
    "load_config",
]

ROWS: Final = ("watch", "profile", "hook", "webhook", "notify", "schedule", "seed", "seed_guard")
"""Tables that may stand there any number of times."""

HOOKS_FOLDER: Final = "hooks.d"
"""Beside the configuration file, unless it says otherwise."""

MAX_CONFIG_BYTES: Final = 1024 * 1024
"""Room for thousands of folders; a device or a film named by mistake is not read to its end."""


def load_config(path: Path, *, environ: Mapping[str, str] = os.environ) -> Config:
    """`ConfigError` with one line a fault: `FILE: key.path: what is wrong, and what to do`."""
    faults = Faults(str(path))
    table = _read_toml(path, faults)
    return _build(table, path.absolute().parent, faults, environ)


def load_places(path: Path, *, usual: bool, environ: Mapping[str, str] = os.environ) -> Config:
    """Only what the file says of `paths` and `control`, if the fault is in the rest: a daemon that has read it before
    it was changed is found by them. `ConfigError`.

    Never by what no file says: where it does not name its state folder, or holds a table that nobody knows (perhaps the
    misspelt one with that folder), the default may be another daemon's. `usual`: the file is that other daemon's own.
    """
    faults = Faults(str(path))
    table = _read_toml(path, faults)
    known: dict[str, Any] = {name: table[name] for name in ("paths", "control") if name in table}
    config = read_table(Config, known, "", path.absolute().parent, faults)
    named = "state" in _section(table, "paths") or bool(environ.get("STATE_DIRECTORY"))
    if faults.lines or config is None or not (named or usual) or table.keys() - set(Config.__struct_fields__):
        raise ConfigError(faults.lines)
    return _with_state_folder(config, known, path.absolute().parent, environ)


def default_config(base: Path) -> Config:
    """What runs without a file: its folders lie below `base/var`."""
    table = {
        "paths": {"state": "var/state", "downloads": "var/downloads"},
        "watch": [{"folder": "var/drop"}],
        # programs of the folder that somebody happens to stand in are nobody's wish
        "hooks": {"folder": ""},
    }
    return _build(table, base.absolute(), Faults("(built in)"), {})


def changes(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """Key paths that differ: those that can change in a running daemon, and those that need a restart."""
    live: list[str] = []
    restart: list[str] = []
    for section in (
        "paths",
        "network",
        "limits",
        "queue",
        "storage",
        "scrub",
        "hooks",
        "control",
        "web",
        "log",
    ):
        before, after = getattr(old, section), getattr(new, section)
        for key in before.__struct_fields__:
            if getattr(before, key) != getattr(after, key):
                (restart if _needs_restart(section, key) else live).append(f"{section}.{key}")
    live += [section for section in ROWS if getattr(old, section) != getattr(new, section)]
    return live, restart


def _needs_restart(section: str, key: str) -> bool:
    """Of what the engine is told, some is for a start only; the rest is the daemon's own, and live."""
    return section in {"control", "web"} or (
        section in {"paths", "network", "limits", "storage"}
        and key in Settings.__dataclass_fields__
        and key not in LIVE_KEYS
    )


def _build(table: Mapping[str, Any], base: Path, faults: Faults, environ: Mapping[str, str]) -> Config:
    config = read_table(Config, table, "", base, faults)
    if config is not None:
        config = _with_state_folder(config, table, base, environ)
        hooks = tuple(
            msgspec.structs.replace(hook, command=_placed(hook.command, base)) for hook in config.hook
        )
        config = msgspec.structs.replace(config, hook=hooks)
        if "folder" not in _section(table, "hooks"):
            beside = msgspec.structs.replace(config.hooks, folder=Folder(base / HOOKS_FOLDER))
            config = msgspec.structs.replace(config, hooks=beside)
        judge(_without_gaps(config, table), faults)
    if faults.lines or config is None:
        raise ConfigError(faults.lines)
    return config


def _with_state_folder(
    config: Config, table: Mapping[str, Any], base: Path, environ: Mapping[str, str]
) -> Config:
    """Where the file names none, systemd's; it lists several with colons between, and ours is the first."""
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not state or "state" in _section(table, "paths"):
        return config
    paths = msgspec.structs.replace(config.paths, state=Folder(os.path.normpath(base / state)))
    return msgspec.structs.replace(config, paths=paths)


def _placed(command: tuple[str, ...], base: Path) -> tuple[str, ...]:
    """A program's relative path starts at the folder of the file, as all others do; a bare word is no path."""
    program = command[0]
    if "/" not in program or program.startswith(("/", "~")):
        return command
    # what stands in the base is no placeholder
    plain = str(base).replace("{", "{{").replace("}", "}}")
    return (os.path.normpath(f"{plain}/{program}"), *command[1:])


def _without_gaps(config: Config, table: Mapping[str, Any]) -> Config:
    """A row that could not be read shifts the numbers of those behind it, so its whole list is not judged."""
    gone: dict[str, tuple[()]] = {}
    for name in ROWS:
        rows = table.get(name, [])
        if not isinstance(rows, list) or len(getattr(config, name)) != len(rows):
            gone[name] = ()
    return msgspec.structs.replace(config, **gone)


def _section(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _read_toml(path: Path, faults: Faults) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            blob = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        faults.add("", f"cannot be read ({error.strerror}): check the path and its permissions")
        raise ConfigError(faults.lines) from None
    if len(blob) > MAX_CONFIG_BYTES:
        faults.add("", f"larger than {MAX_CONFIG_BYTES // 1024} KiB: name a configuration file")
        raise ConfigError(faults.lines)
    try:
        return tomllib.loads(blob.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        faults.add("", f"line {line}: not UTF-8: save the file in that encoding")
    except tomllib.TOMLDecodeError as error:
        faults.add("", _syntax_fault(str(error), blob.rstrip().count(b"\n") + 1))
    except (ValueError, RecursionError) as error:
        # tomllib lets these through: an integer of thousands of digits, hundreds of nested brackets
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        faults.add("", f"not valid TOML: {what}: simplify that value")
    raise ConfigError(faults.lines)


def _syntax_fault(told: str, last_line: int) -> str:
    """From tomllib's "What (at line 3, column 5)" or "What (at end of document)"."""
    what, _, place = told.rpartition(" (at ")
    if not what:
        return f"not valid TOML: {told}: correct it (strings need quotes, tables [brackets])"
    place = f"line {last_line}" if place.startswith("end") else place.rstrip(")")
    return f"{place}: not valid TOML: {what}: correct that line (strings need quotes, tables [brackets])"
