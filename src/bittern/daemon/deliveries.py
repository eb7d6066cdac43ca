"""One event on its way to the hooks that asked for it: as a value, on disk, and as a program is told of
it.
"""

import os
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from bittern import __version__
from bittern.disk.toml import dump_text, dump_toml, load_text
from bittern.engine.events import TorrentFacts
from bittern.engine.farewells import dump_facts, load_facts
from bittern.errors import BitternError
from bittern.net.http import shown
from bittern.policy.labels import as_text
from bittern.terms import InfoHash

FORMAT: Final = 1

MAX_WORD_CHARS: Final = 16 * 1024
"""The kernel takes at most 128 KiB for one argument or variable, and a name or a tracker list comes from
strangers."""

NEVER_INHERITED: Final = ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM", "MAINPID")
NEVER_INHERITED_PREFIXES: Final = ("WATCHDOG_", "LISTEN_", "BITTERN_", "TR_")
"""A hook must not speak to systemd in our name, nor hold what it entrusted to us."""

LONGEST_PAUSE_S: Final = 3600.0
"""Between two attempts, however often a hook failed; `retry_after_s` itself may be longer."""

NO_TORRENT: Final = InfoHash(bytes(20))
"""In events that are about none."""

_DEFAULT_PORTS: Final = {"https": 443, "wss": 443}


TIMED_OUT: Final = 124
"""The exit status, as timeout(1) has it, of a hook that was ended and says that all is well."""


class DeliveryError(BitternError):
    """A spooled delivery that cannot be read."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One hook's share of a delivery; its terms are those that were configured when the event happened.

    It is a program (`command`), a `webhook` or a `notify` service, the latter two by their URL.
    `attempts` counts every start over all time, `failures` those that failed since the delivery was made or replayed.
    """

    command: tuple[str, ...] = ()
    webhook: str = ""
    notify: str = ""
    timeout_s: float
    retries: int = 0
    retry_after_s: float = 10.0
    attempts: int = 0
    failures: int = 0
    done: bool = False
    dead: bool = False
    due_wall: float = 0.0
    exit_status: int = 0
    ended_wall: float = 0.0
    output: str = ""

    @property
    def target(self) -> str:
        """Who is told, without what may be secret in a URL."""
        return " ".join(self.command) or shown(self.webhook or self.notify)

    @property
    def settled(self) -> bool:
        """Will it not be run again by itself?"""
        return self.done or self.dead

    def ended(self, exit_status: int, output: str, now_wall: float) -> None:
        """An attempt came to its end: the hook was told, is told again later, or is given up."""
        self.exit_status, self.output, self.ended_wall = exit_status, output, now_wall
        if exit_status == 0:
            self.done = True
            return
        self.failures += 1
        if self.failures > self.retries:
            self.dead = True
        else:
            self.due_wall = now_wall + self.pause_s

    @property
    def pause_s(self) -> float:
        """Between the last failure and the next attempt: doubling, at most an hour or what was configured."""
        longest = max(LONGEST_PAUSE_S, self.retry_after_s)
        return min(self.retry_after_s * 2.0 ** min(self.failures - 1, 32), longest)

    def wait_s(self, now_wall: float) -> float:
        """Until the next attempt is due. A clock that was set back does not make it longer than the pause."""
        if not self.failures:
            return 0.0
        return min(max(self.due_wall - now_wall, 0.0), self.pause_s)

    def again(self) -> None:
        """Whatever became of it, it shall be run again."""
        self.done = self.dead = False
        self.failures, self.due_wall = 0, 0.0


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """What happened, and who is told."""

    event: str
    event_id: str
    reason: str
    at_wall: float
    facts: TorrentFacts
    runs: list[Run] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)
    """What else is told of such an event, `..._bytes` by name."""
    order: int = 0
    """Those with lower numbers came before. Ids do not say so: they are of the clock on the wall, which may be set."""

    @property
    def settled(self) -> bool:
        """Has every hook been told, or been given up?"""
        return all(run.settled for run in self.runs)

    @property
    def dead(self) -> bool:
        """Was a hook given up?"""
        return any(run.dead for run in self.runs)

    def again(self) -> None:
        """To be told once more: those that were given up, or if there is none, all."""
        for run in [run for run in self.runs if run.dead] or self.runs:
            run.again()


# -------------------------------------------------------------------------------------------- on disk


def dump_delivery(delivery: Delivery) -> bytes:
    """As TOML."""
    table = {
        "format": FORMAT,
        "event": delivery.event,
        "event_id": delivery.event_id,
        "order": delivery.order,
        "reason": dump_text(delivery.reason),
        "at": delivery.at_wall,
        "torrent": dump_facts(delivery.facts),
        **({"figures": delivery.figures} if delivery.figures else {}),
        "run": [
            {
                **{key: value for key, value in (("webhook", run.webhook), ("notify", run.notify)) if value},
                "command": list(run.command),
                "timeout_s": run.timeout_s,
                "retries": run.retries,
                "retry_after_s": run.retry_after_s,
                "attempts": run.attempts,
                "failures": run.failures,
                "done": run.done,
                "dead": run.dead,
                "due": run.due_wall,
                "exit_status": run.exit_status,
                "ended": run.ended_wall,
                "output": dump_text(run.output),
            }
            for run in delivery.runs
        ],
    }
    return dump_toml(table)


def load_delivery(blob: bytes) -> Delivery:
    """`DeliveryError` for anything that `dump_delivery` did not write."""
    try:
        table = tomllib.loads(blob.decode())
        if table["format"] != FORMAT:
            raise DeliveryError(f"format {table['format']} is not known here")
        return Delivery(
            event=table["event"],
            event_id=table["event_id"],
            reason=load_text(table["reason"]),
            at_wall=float(table["at"]),
            facts=load_facts(table["torrent"]),
            runs=[_load_run(run) for run in table["run"]],
            figures={str(key): int(value) for key, value in table.get("figures", {}).items()},
            # deliveries that 0.1 spooled have none: they are the oldest
            order=int(table.get("order", 0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DeliveryError(f"{type(error).__name__}: {error}") from error


def _load_run(table: Mapping[str, Any]) -> Run:
    return Run(
        command=tuple(str(argument) for argument in table["command"]),
        webhook=str(table.get("webhook", "")),
        notify=str(table.get("notify", "")),
        timeout_s=float(table["timeout_s"]),
        # Deliveries that 0.1 spooled have no retries: they were run once, whatever came of it.
        retries=int(table.get("retries", 0)),
        retry_after_s=float(table.get("retry_after_s", 10.0)),
        attempts=int(table["attempts"]),
        failures=int(table.get("failures", 0)),
        done=bool(table["done"]),
        dead=bool(table.get("dead", False)),
        due_wall=float(table.get("due", 0.0)),
        exit_status=int(table["exit_status"]),
        ended_wall=float(table["ended"]),
        output=load_text(table["output"]),
    )


# -------------------------------------------------------------------------------------------- as it is told


def placeholders(delivery: Delivery) -> dict[str, str]:
    """What may be put into arguments and templates."""
    facts = delivery.facts
    return {
        "name": _word(facts.name),
        "path": _word(facts.path),
        "dir": _word(facts.folder),
        "info_hash": _hash_of(facts),
        "label": _word(facts.label),
        "labels": _word(as_text(facts.labels)),
        "watch": _word(facts.watch),
        "event": delivery.event,
        "reason": _word(delivery.reason),
        "size_bytes": str(facts.size_bytes),
        **{key: str(value) for key, value in delivery.figures.items()},
    }


def environment(delivery: Delivery, attempt: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Ours, and Transmission's so that scripts written for it work."""
    facts = delivery.facts
    env = {key: value for key, value in inherited.items() if _may_inherit(key)}
    env |= {
        "BITTERN_EVENT": delivery.event,
        "BITTERN_EVENT_ID": delivery.event_id,
        "BITTERN_ATTEMPT": str(attempt),
        "BITTERN_INFO_HASH": _hash_of(facts),
        "BITTERN_NAME": _word(facts.name),
        "BITTERN_PATH": _word(facts.path),
        "BITTERN_DIR": _word(facts.folder),
        "BITTERN_SIZE_BYTES": str(facts.size_bytes),
        "BITTERN_LABEL": _word(facts.label),
        "BITTERN_LABELS": _word(as_text(facts.labels)),
        "BITTERN_WATCH": _word(facts.watch),
        "BITTERN_REASON": _word(delivery.reason),
        **{f"BITTERN_{key.upper()}": str(value) for key, value in delivery.figures.items()},
        "TR_APP_VERSION": __version__,
        "TR_TIME_LOCALTIME": time.strftime("%a %b %d %H:%M:%S %Y"),
        "TR_TORRENT_ID": str(facts.number),
        "TR_TORRENT_NAME": _word(facts.name),
        "TR_TORRENT_DIR": _word(facts.folder),
        "TR_TORRENT_HASH": _hash_of(facts),
        "TR_TORRENT_LABELS": _word(as_text(facts.labels)),
        "TR_TORRENT_BYTES_DOWNLOADED": str(facts.downloaded_bytes),
        # Transmission writes the number of its priority: -1, 0 or 1.
        "TR_TORRENT_PRIORITY": "0",
        "TR_TORRENT_TRACKERS": _hosts(facts.trackers),
    }
    return env


def message(delivery: Delivery, attempt: int) -> dict[str, Any]:
    """The JSON object on standard input, and that a webhook is sent."""
    facts = delivery.facts
    return {
        "event": delivery.event,
        "event_id": delivery.event_id,
        "attempt": attempt,
        "time": int(delivery.at_wall),
        "info_hash": _hash_of(facts),
        "name": facts.name,
        "path": facts.path,
        "dir": facts.folder,
        "size_bytes": facts.size_bytes,
        "label": facts.label,
        "labels": list(facts.labels),
        "watch": facts.watch,
        "reason": delivery.reason,
        **delivery.figures,
    }


def _hash_of(facts: TorrentFacts) -> str:
    return "" if facts.info_hash == NO_TORRENT else facts.info_hash.hex()


def _may_inherit(key: str) -> bool:
    return key not in NEVER_INHERITED and not key.startswith(NEVER_INHERITED_PREFIXES)


def _word(text: str) -> str:
    """A NUL would end it, and a lone surrogate that stands for no byte cannot be passed on."""
    cut = text[:MAX_WORD_CHARS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        os.fsencode(cut)
    except UnicodeEncodeError:
        return cut.encode("utf-8", "replace").decode()
    return cut


def _hosts(trackers: tuple[str, ...]) -> str:
    """`host:port` of each, commas between, as Transmission lists them."""
    hosts: list[str] = []
    length = 0
    for url in trackers:
        try:
            parts = urlsplit(url)
            port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)
        except ValueError:
            continue
        name = parts.hostname or ""
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}" if name else ""
        length += len(host) + 1
        if length > MAX_WORD_CHARS:
            break
        if host:
            hosts.append(host)
    return _word(",".join(hosts))
