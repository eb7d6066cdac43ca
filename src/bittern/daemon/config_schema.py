"""What the TOML file may hold: a struct a table, a field a key.

The type decides what is taken, the description is the remedy that a fault quotes.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from bittern.daemon.config_reader import Folder
from bittern.daemon.durations import Duration
from bittern.daemon.modes import rights_of
from bittern.daemon.profile_schema import Permissions, Profile
from bittern.daemon.sizes import MIB, Rate, Size
from bittern.engine.settings import Settings
from bittern.policy import seedrules
from bittern.policy.schedule import Period

DEFAULT_STATE: Final = "/var/lib/bittern"

DHT_BOOTSTRAP: Final = (
    "dht.libtorrent.org:25401",
    "dht.transmissionbt.com:6881",
    "router.bittorrent.com:6881",
)
"""Nodes that are there to introduce others."""

AfterAdd: TypeAlias = Literal["move", "keep", "delete"]
HookEvent: TypeAlias = Literal[
    "added",
    "downloaded",
    "completed",
    "failed",
    "recovered",
    "removed",
    "seeding-done",
    "stalled",
    "started",
    "tracker-error",
    "disk-low",
    "rejected",
]
HOOK_EVENTS: Final[tuple[str, ...]] = get_args(HookEvent)
Level: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "console", "json"]

_FolderKey: TypeAlias = Annotated[Folder, Meta(description='a folder, such as "/srv/bittern/downloads"')]
_Flag: TypeAlias = Annotated[bool, Meta(description="true or false")]
_Label: TypeAlias = Annotated[str, Meta(max_length=255, description="a short text; commas part several")]
_Events: TypeAlias = Annotated[
    tuple[HookEvent, ...],
    Meta(min_length=1, description="a list of " + ", ".join(f'"{event}"' for event in HOOK_EVENTS)),
]
_Seconds: TypeAlias = Annotated[
    float, Meta(gt=0, le=604800, description="seconds, above 0 and at most 604800")
]
_Retries: TypeAlias = Annotated[int, Meta(ge=0, le=100, description="a whole number from 0 to 100")]
_RetryAfter: TypeAlias = Annotated[
    float, Meta(gt=0, le=86400, description="seconds, above 0 and at most 86400")
]
_Globs: TypeAlias = Annotated[
    tuple[Annotated[str, Meta(max_length=1000)], ...],
    Meta(max_length=100, description='a list of patterns such as ["films", "tv-*"], [] for all'),
]
_FolderGlobs: TypeAlias = Annotated[
    tuple[Annotated[str, Meta(max_length=4000)], ...],
    Meta(max_length=100, description='a list of watched folders such as ["/srv/bittern/drop"], [] for all'),
]
_HookName: TypeAlias = Annotated[
    str,
    Meta(
        max_length=100,
        pattern="^[A-Za-z0-9_-]*$",
        description='a word of letters and digits such as "unpack"',
    ),
]
_Count: TypeAlias = Annotated[int, Meta(ge=1, le=65535, description="a whole number from 1 to 65535")]
_RateKey: TypeAlias = Annotated[
    Rate, Meta(description='bytes per second, such as 500000 or "10 MiB", 0 for no limit')
]


_Limit: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000, description="a whole number, 0 for no limit")]
Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
_Clock: TypeAlias = Annotated[
    str, Meta(pattern=r"^(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)$", description='a time such as "08:30"')
]
_DurationKey: TypeAlias = Annotated[Duration, Meta(description='a time such as "90m", "72h" or "14d"')]


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """Where things lie; `incomplete` "" = among the downloads from the start."""

    state: _FolderKey = Folder(DEFAULT_STATE)
    downloads: _FolderKey = Folder("/srv/bittern/downloads")
    incomplete: _FolderKey = Folder("")


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """One watched folder; `downloads` "" = `paths.downloads`."""

    folder: _FolderKey
    after_add: Annotated[AfterAdd, Meta(description='"move", "keep" or "delete"')] = "move"
    downloads: _FolderKey = Folder("")
    label: _Label = ""
    priority: Annotated[int, Meta(ge=-1000, le=1000, description="a whole number from -1000 to 1000")] = 0
    tie: _Flag = False
    receipts: _Flag = False
    subfolders: _Flag = False
    sidecar_grace: Annotated[
        float, Meta(ge=0, le=60, description="seconds from 0 to 60, 0 for no waiting")
    ] = 0.0


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """How peers reach us, and how many."""

    listen: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1, max_length=64, description='a list of numeric addresses, such as ["0.0.0.0", "::"]'
        ),
    ] = ("0.0.0.0",)  # noqa: S104 — a BitTorrent client is there to be reached
    port: Annotated[
        int, Meta(ge=0, le=65535, description="a port from 1 to 65535, or 0 to have a free one picked")
    ] = 1729
    udp_port: Annotated[
        Literal["same"] | Annotated[int, Meta(ge=0, le=65535)],
        Meta(description='"same" as the TCP port, or a port from 1 to 65535, or 0 to have a free one picked'),
    ] = "same"
    dial_scope: Annotated[Literal["any", "this-host"], Meta(description='"any" or "this-host"')] = "any"
    dht: _Flag = True
    pex: _Flag = True
    lsd: _Flag = True
    dht_bootstrap: Annotated[
        tuple[str, ...],
        Meta(max_length=64, description='a list such as ["router.example.org:6881"], or [] for none'),
    ] = DHT_BOOTSTRAP
    max_peers: _Count = 200
    max_peers_per_torrent: _Count = 50
    numwant: Annotated[int, Meta(ge=0, le=1000, description="a whole number from 0 to 1000")] = 80


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the machine may be used."""

    download_rate: _RateKey = Rate(0)
    upload_rate: _RateKey = Rate(0)
    upload_slots: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=1000)],
        Meta(description='"auto" or a whole number from 1 to 1000'),
    ] = "auto"
    open_files: Annotated[int, Meta(ge=8, le=65536, description="a whole number from 8 to 65536")] = 128
    piece_memory: Annotated[Size, Meta(description='at least "4 MiB"; "64 MiB" suits most')] = Size(64 * MIB)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Other rate limits at some times of the week; a rate that is left out stays as it is."""

    days: Annotated[tuple[Day, ...], Meta(min_length=1, description='a list such as ["mon", "tue"]')] = DAYS
    from_: _Clock = msgspec.field(name="from")
    to: _Clock
    download: Annotated[
        Rate | None, Meta(description='bytes per second, such as "1 MiB", 0 for no limit')
    ] = None
    upload: Annotated[Rate | None, Meta(description='bytes per second, such as "1 MiB", 0 for no limit')] = (
        None
    )

    def policy(self) -> Period:
        """What is looked at."""
        return Period(
            days=frozenset(DAYS.index(day) for day in self.days),
            start_minute=_minute(self.from_),
            end_minute=_minute(self.to),
            download=self.download,
            upload=self.upload,
        )


def _minute(written: str) -> int:
    hours, minutes = written.split(":")
    return int(hours) * 60 + int(minutes)


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """How many torrents at once; 0 = all."""

    downloads: _Limit = 0
    seeds: _Limit = 0
    checks: _Limit = 0
    stalled_after: Annotated[
        Duration, Meta(description='a time such as "10m", or 0 to let nothing count as stalled')
    ] = Duration(600)


class Storage(Permissions, frozen=True, kw_only=True):
    """How files are made."""

    preallocate: _Flag = False
    reserve: Annotated[Size, Meta(description='bytes, such as "256 MiB", 0 for none')] = Size(256 * MIB)


class Scrub(msgspec.Struct, frozen=True, kw_only=True):
    """Hashing again what is seeded."""

    rate: Annotated[Rate, Meta(description='bytes per second, such as "1 MiB", 0 for none')] = Rate(0)


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """A program that is told."""

    on: _Events
    command: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1, max_length=256, description='a list such as ["/etc/bittern/hooks/done", "{name}"]'
        ),
    ]
    timeout_s: _Seconds = 300.0
    name: _HookName = ""
    retries: _Retries = 5
    retry_after_s: _RetryAfter = 10.0
    label: _Globs = ()
    watch: _FolderGlobs = ()
    tracker: _Globs = ()


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A URL that is sent what happened; `template` {} = the whole object."""

    on: _Events
    url: Annotated[str, Meta(max_length=4000, description='a URL such as "https://example.org/told"')]
    headers: Annotated[
        dict[str, str], Meta(max_length=50, description='a table such as { Authorization = "Bearer ..." }')
    ] = {}
    secret_file: Annotated[Folder, Meta(description='a file, such as "/etc/bittern/webhook.secret"')] = (
        Folder("")
    )
    template: Annotated[dict[str, Any], Meta(description='a table such as { text = "{name} is done" }')] = {}
    timeout_s: _Seconds = 30.0
    name: _HookName = ""
    retries: _Retries = 5
    retry_after_s: _RetryAfter = 10.0
    label: _Globs = ()
    watch: _FolderGlobs = ()
    tracker: _Globs = ()


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """Services of the library apprise that are told in a sentence."""

    on: _Events
    urls: Annotated[
        tuple[Annotated[str, Meta(max_length=4000)], ...],
        Meta(min_length=1, max_length=50, description='a list of URLs such as ["mailto://..."]'),
    ]
    title: Annotated[str, Meta(max_length=1000, description='a text such as "{event}: {name}"')] = (
        "{event}: {name}"
    )
    body: Annotated[str, Meta(max_length=10000, description='a text such as "{path}"')] = "{path}\n{reason}"
    timeout_s: _Seconds = 30.0
    name: _HookName = ""
    retries: _Retries = 5
    retry_after_s: _RetryAfter = 10.0
    label: _Globs = ()
    watch: _FolderGlobs = ()
    tracker: _Globs = ()


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """What goes for all hooks together."""

    parallel: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 2
    folder: _FolderKey = Folder("")


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The socket through which `bittern list` and others speak with the daemon; "" = see `control/address.py`."""

    enabled: _Flag = True
    socket: Annotated[Folder, Meta(description='a path such as "/run/bittern/control.sock"')] = Folder("")


class Web(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP over TCP: the native API and Transmission's RPC."""

    enabled: _Flag = True
    listen: Annotated[
        tuple[str, ...],
        Meta(min_length=1, max_length=16, description='a list of numeric addresses, such as ["127.0.0.1"]'),
    ] = ("127.0.0.1",)
    port: Annotated[int, Meta(ge=1, le=65535, description="a port from 1 to 65535")] = 8080
    access: Annotated[Literal["read-only", "full"], Meta(description='"read-only" or "full"')] = "read-only"
    password_file: Annotated[Folder, Meta(description='a file, such as "/etc/bittern/web.password"')] = (
        Folder("")
    )
    tls_certificate: Annotated[Folder, Meta(description='a file, such as "/etc/bittern/web.pem"')] = Folder(
        ""
    )
    tls_key: Annotated[Folder, Meta(description='a file, such as "/etc/bittern/web.key"')] = Folder("")
    tls_client_ca: Annotated[Folder, Meta(description='a file, such as "/etc/bittern/clients.pem"')] = Folder(
        ""
    )
    hosts: Annotated[
        tuple[Annotated[str, Meta(max_length=253)], ...],
        Meta(max_length=64, description='a list of names such as ["seedbox.example.org"]'),
    ] = ()


class Amounts(msgspec.Struct, frozen=True, kw_only=True):
    """What must be reached, all of it; 0 = that does not matter."""

    ratio: Annotated[float, Meta(ge=0, le=1e6, description="a number such as 2.0")] = 0.0
    seed_time: _DurationKey = Duration(0)
    idle: _DurationKey = Duration(0)

    def policy(self) -> seedrules.Amounts:
        """What the engine needs."""
        return seedrules.Amounts(
            ratio=self.ratio or None,
            seed_time_s=float(self.seed_time) or None,
            idle_s=float(self.idle) or None,
        )


class Seed(msgspec.Struct, frozen=True, kw_only=True):
    """When a torrent has been seeded enough, and what becomes of it; `name` "" = its number."""

    when: tuple[Amounts, ...] = ()
    action: Annotated[
        seedrules.SeedAction, Meta(description='"stop", "remove", "remove-with-data" or "move"')
    ]
    folder: _FolderKey = Folder("")
    name: Annotated[str, Meta(max_length=255, description="a short text")] = ""
    label: _Globs = ()
    tracker: _Globs = ()

    def policy(self, number: int) -> seedrules.SeedRule:
        """What the engine needs; `number` counts from 1."""
        return seedrules.SeedRule(
            name=self.name or f"seed {number}",
            when=tuple(one.policy() for one in self.when),
            action=self.action,
            folder=str(self.folder),
            scope=seedrules.Scope(label=self.label, tracker=self.tracker),
        )


class SeedGuard(msgspec.Struct, frozen=True, kw_only=True):
    """Before one of `until` no rule stops or removes these torrents."""

    until: tuple[Amounts, ...] = ()
    label: _Globs = ()
    tracker: _Globs = ()

    def policy(self) -> seedrules.SeedGuard:
        """What the engine needs."""
        return seedrules.SeedGuard(
            until=tuple(one.policy() for one in self.until),
            scope=seedrules.Scope(label=self.label, tracker=self.tracker),
        )


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is told to the administrator, and how."""

    level: Annotated[Level, Meta(description='"debug", "info", "warning" or "error"')] = "info"
    format: Annotated[LogFormat, Meta(description='"auto", "console" or "json"')] = "auto"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the file says; every folder in it is absolute, "" where none is set."""

    paths: Paths = Paths()
    watch: tuple[Watch, ...] = ()
    network: Network = Network()
    limits: Limits = Limits()
    queue: Queue = Queue()
    storage: Storage = Storage()
    scrub: Scrub = Scrub()
    profile: tuple[Profile, ...] = ()
    hook: tuple[Hook, ...] = ()
    webhook: tuple[Webhook, ...] = ()
    notify: tuple[Notify, ...] = ()
    schedule: tuple[Schedule, ...] = ()
    seed: tuple[Seed, ...] = ()
    seed_guard: tuple[SeedGuard, ...] = ()
    hooks: Hooks = Hooks()
    control: Control = Control()
    web: Web = Web()
    log: Log = Log()

    def periods(self) -> tuple[Period, ...]:
        """The schedule."""
        return tuple(row.policy() for row in self.schedule)

    def engine(self) -> Settings:
        """What of it the engine needs."""
        slots = self.limits.upload_slots
        return Settings(
            state=str(self.paths.state),
            downloads=str(self.paths.downloads),
            listen=self.network.listen,
            port=self.network.port,
            udp_port=None if self.network.udp_port == "same" else self.network.udp_port,
            dial_scope=self.network.dial_scope,
            dht=self.network.dht,
            pex=self.network.pex,
            lsd=self.network.lsd,
            dht_bootstrap=self.network.dht_bootstrap,
            max_peers=self.network.max_peers,
            max_peers_per_torrent=min(self.network.max_peers_per_torrent, self.network.max_peers),
            numwant=self.network.numwant,
            download_rate=float(self.limits.download_rate) or None,
            upload_rate=float(self.limits.upload_rate) or None,
            upload_slots=None if slots == "auto" else slots,
            open_files=self.limits.open_files,
            piece_memory=int(self.limits.piece_memory),
            preallocate=self.storage.preallocate,
            reserve_bytes=int(self.storage.reserve),
            scrub_rate=float(self.scrub.rate) or None,
            rights=rights_of(self.storage),
            reserved=self.own_folders(),
            max_downloads=self.queue.downloads or None,
            max_seeds=self.queue.seeds or None,
            max_checks=self.queue.checks or None,
            stalled_after_s=float(self.queue.stalled_after) or None,
            seed_rules=tuple(rule.policy(number) for number, rule in enumerate(self.seed, 1)),
            seed_guards=tuple(guard.policy() for guard in self.seed_guard),
        )

    def own_folders(self) -> tuple[str, ...]:
        """Every folder of bittern's own, so that no torrent is put in the place of one."""
        found = {str(self.paths.state), str(self.paths.downloads), str(self.paths.incomplete)}
        found.add(str(self.hooks.folder))
        for watch in self.watch:
            folder = str(watch.folder)
            found |= {folder, f"{folder}/accepted", f"{folder}/rejected", str(watch.downloads)}
        return tuple(sorted((found | set(self.data_folders())) - {""}))

    def data_folders(self) -> tuple[str, ...]:
        """Where the data of torrents may be put, or below; first where it is put unless something else is said."""
        rows = [str(row.downloads) for row in self.watch] + [str(row.downloads) for row in self.profile]
        return tuple(one for one in dict.fromkeys([str(self.paths.downloads), *rows]) if one)

    def hook_names(self) -> frozenset[str]:
        """Of hooks, webhooks and notifications that profiles and sidecars may ask for."""
        rows: list[Hook | Webhook | Notify] = [*self.hook, *self.webhook, *self.notify]
        return frozenset(row.name for row in rows) - {""}
