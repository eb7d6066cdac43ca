"""What no single key can know: how the values of a `Config` go together."""

import ipaddress
import os
import re
from urllib.parse import urlsplit

from bittern.daemon.config_reader import Faults
from bittern.daemon.config_schema import Amounts, Config, Hook, Notify, Seed, Webhook
from bittern.daemon.placeholders import PlaceholderError, parse_argument
from bittern.daemon.profile_rules import judge_folder_patterns, judge_profiles
from bittern.daemon.sizes import MIB
from bittern.policy.labels import label_fault
from bittern.proto.endpoint import parse_endpoint

MIN_PIECE_MEMORY = 4 * MIB
"""A quarter of it must hold a 1 MiB span, the unit in which large pieces are fetched."""

STATE_FOLDERS = ("torrents", "resume", "removed", "deliveries")
"""What is in the state folder belongs to bittern alone; beside these there may be others."""


def judge(config: Config, faults: Faults) -> None:
    """Adds a fault for each combination that cannot work."""
    _judge_paths(config, faults)
    _judge_watches(config, faults)
    _judge_network(config, faults)
    _judge_web(config, faults)
    if config.limits.piece_memory < MIN_PIECE_MEMORY:
        faults.add(
            "limits.piece_memory", 'too small to hold the parts of large pieces: write at least "4 MiB"'
        )
    for number, hook in enumerate(config.hook):
        _judge_command(hook, f"hook[{number}].command", faults)
    for number, webhook in enumerate(config.webhook):
        _judge_webhook(webhook, f"webhook[{number}]", faults)
    for number, notify in enumerate(config.notify):
        _judge_notify(notify, f"notify[{number}]", faults)
    for table in ("hook", "webhook", "notify"):
        for number, row in enumerate(getattr(config, table)):
            judge_folder_patterns(row.watch, f"{table}[{number}].watch", faults)
    judge_profiles(config, faults)
    for number, rule in enumerate(config.seed):
        _judge_seed(rule, f"seed[{number}]", config, faults)
    for number, guard in enumerate(config.seed_guard):
        _judge_amounts(guard.until, f"seed_guard[{number}].until", faults)


def remarks(config: Config) -> list[str]:
    """What is no fault, but may not be what was meant: a line each."""
    called = {name for row in config.profile for name in row.hooks or ()}
    return [
        f"{table}[{number}] has a name, {row.name!r}, and is told only of torrents whose profile or sidecar names it; "
        "no profile does: leave out the name if it is meant for all"
        for table in ("hook", "webhook", "notify")
        for number, row in enumerate(getattr(config, table))
        if row.name and row.name not in called
    ]


def _judge_paths(config: Config, faults: Faults) -> None:
    paths = config.paths
    for key in ("state", "downloads"):
        if not getattr(paths, key):
            faults.add(f"paths.{key}", "empty: write a folder, or leave the key out for the default")
    if paths.incomplete and paths.incomplete == paths.downloads:
        faults.add("paths.incomplete", 'the same as paths.downloads: name another folder, or write ""')
    data = {"paths.downloads": paths.downloads, "paths.incomplete": paths.incomplete}
    data |= {f"watch[{number}].downloads": watch.downloads for number, watch in enumerate(config.watch)}
    data |= {f"profile[{number}].downloads": row.downloads for number, row in enumerate(config.profile)}
    own = [f"{paths.state}/{name}" for name in STATE_FOLDERS if paths.state]
    for where, folder in data.items():
        if paths.state and folder == paths.state:
            faults.add(where, "the same as paths.state: torrents must not mix with bittern's records")
        elif any(_inside(folder, taken) for taken in own):
            faults.add(where, "lies in a folder of bittern's records in paths.state: move it")


def _judge_watches(config: Config, faults: Faults) -> None:
    seen: dict[str, int] = {}
    own = {
        f"{watch.folder}/{name}": watch.folder for watch in config.watch for name in ("accepted", "rejected")
    }
    for number, watch in enumerate(config.watch):
        where = f"watch[{number}]"
        folder = str(watch.folder)
        if not folder:
            faults.add(f"{where}.folder", "empty: write the folder to watch")
            continue
        if folder in seen:
            faults.add(
                f"{where}.folder", f"watch[{seen[folder]}] has this folder already: remove one of the two"
            )
        seen.setdefault(folder, number)
        if _inside(folder, str(config.paths.state)):
            faults.add(
                f"{where}.folder", "lies in paths.state, where bittern keeps its own .torrent files: move it"
            )
        for taken, owner in own.items():
            if _inside(folder, taken):
                faults.add(
                    f"{where}.folder",
                    f'"{owner}" is watched and puts its taken .torrent files there: move it',
                )
        if watch.tie and watch.after_add != "keep":
            faults.add(
                f"{where}.tie",
                f'after_add = "{watch.after_add}" takes the .torrent away that tie = true waits to see '
                'removed: write after_add = "keep", or tie = false',
            )
        if fault := label_fault(watch.label):
            faults.add(f"{where}.label", fault)


def _inside(path: str, folder: str) -> bool:
    return bool(path and folder) and os.path.commonpath((path, folder)) == folder


def _judge_network(config: Config, faults: Faults) -> None:
    seen: set[str] = set()
    for number, written in enumerate(config.network.listen):
        where = f"network.listen[{number}]"
        try:
            address = ipaddress.ip_address(written)
        except ValueError:
            faults.add(
                where,
                f'"{written}" is not a numeric address: write one such as "0.0.0.0", "::" or "127.0.0.1"',
            )
            continue
        if address.is_multicast or getattr(address, "scope_id", None):
            faults.add(
                where, f'"{written}" cannot be listened on: write an address of this machine, without a %zone'
            )
        if str(address) in seen:
            faults.add(where, f'"{written}" stands there twice: remove one')
        seen.add(str(address))
    for number, written in enumerate(config.network.dht_bootstrap):
        if parse_endpoint(written) is None:
            faults.add(
                f"network.dht_bootstrap[{number}]",
                f'"{written}" is no host with a port: write one such as "router.example.org:6881" or "[::1]:6881"',
            )


def _judge_web(config: Config, faults: Faults) -> None:
    web = config.web
    for number, written in enumerate(web.listen):
        where = f"web.listen[{number}]"
        try:
            address = ipaddress.ip_address(written)
        except ValueError:
            faults.add(where, f'"{written}" is not a numeric address: write one such as "127.0.0.1" or "::1"')
            continue
        if web.enabled and not address.is_loopback and not (web.password_file or web.tls_client_ca):
            faults.add(
                where,
                f'"{written}" is reached by others: write web.password_file (`bittern passwd` makes it) or '
                'web.tls_client_ca, or listen at "127.0.0.1"',
            )
    for key, other in (
        ("tls_certificate", "tls_key"),
        ("tls_key", "tls_certificate"),
        ("tls_client_ca", "tls_certificate"),
    ):
        if getattr(web, key) and not getattr(web, other):
            faults.add(f"web.{key}", f"is of no use alone: write web.{other} too")


def _judge_command(hook: Hook, where: str, faults: Faults) -> None:
    program = hook.command[0]
    if not program.startswith("/"):
        faults.add(
            f"{where}[0]",
            f'"{program}" is not a path: write the whole one, such as "/etc/bittern/hooks/done"',
        )
    for number, argument in enumerate(hook.command):
        if "\0" in argument:
            faults.add(f"{where}[{number}]", "has a NUL in it, which no program can be given: remove it")
        try:
            parts = parse_argument(argument)
        except PlaceholderError as error:
            faults.add(f"{where}[{number}]", str(error))
            continue
        if number == 0 and any(part.placeholder for part in parts):
            faults.add(
                f"{where}[0]", "which program runs must not depend on a torrent: put it among the arguments"
            )


def _judge_webhook(webhook: Webhook, where: str, faults: Faults) -> None:
    try:
        parts = urlsplit(webhook.url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        faults.add(
            f"{where}.url", 'not a URL that can be posted to: write one such as "https://example.org/told"'
        )
    for name, value in webhook.headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", name) or not (
            value.isascii() and value.isprintable()
        ):
            faults.add(f"{where}.headers", "has a name or a value that HTTP cannot carry: correct it")
    _judge_texts(webhook.template, f"{where}.template", faults)


def _judge_seed(rule: Seed, where: str, config: Config, faults: Faults) -> None:
    _judge_amounts(rule.when, f"{where}.when", faults)
    if (rule.action == "move") != bool(rule.folder):
        faults.add(
            f"{where}.folder",
            'action = "move" needs a folder to move to: write one'
            if rule.action == "move"
            else f'goes with action = "move" only, and this is "{rule.action}": remove one of the two',
        )
    state = str(config.paths.state)
    if rule.folder and (
        rule.folder == state or any(_inside(rule.folder, f"{state}/{one}") for one in STATE_FOLDERS)
    ):
        faults.add(f"{where}.folder", "lies in a folder of bittern's records in paths.state: name another")


def _judge_amounts(alternatives: tuple[Amounts, ...], where: str, faults: Faults) -> None:
    if not alternatives:
        faults.add(where, 'empty: write what must be reached, such as [{ ratio = 2.0 }, { idle = "14d" }]')
    for number, one in enumerate(alternatives):
        if one == Amounts():
            faults.add(f"{where}[{number}]", "names nothing to be reached: write ratio, seed_time or idle")


def _judge_texts(template: object, where: str, faults: Faults) -> None:
    match template:
        case str():
            try:
                parse_argument(template)
            except PlaceholderError as error:
                faults.add(where, str(error))
        case dict():
            for key, value in template.items():
                _judge_texts(value, f"{where}.{key}", faults)
        case list():
            for number, value in enumerate(template):
                _judge_texts(value, f"{where}[{number}]", faults)
        case bool() | int() | float():
            pass
        case _:
            faults.add(where, "JSON has no dates and times: write it as a text, in quotes")


def _judge_notify(notify: Notify, where: str, faults: Faults) -> None:
    for key in ("title", "body"):
        _judge_texts(getattr(notify, key), f"{where}.{key}", faults)
    # its door opens trio's, which no command that only reads the file needs
    from bittern.daemon.notifying import available

    if not available():
        faults.add(where, "needs the library apprise: pip install 'bittern[notify]', or remove the table")
