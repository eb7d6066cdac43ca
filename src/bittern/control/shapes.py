"""What the native API takes and answers, as types: views are checked against them, and its description is made of them.

Sizes are bytes, rates bytes per second, times seconds since 1970; `..._in_s` and `..._ago` seconds from now.
"""

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from bittern.control.common_limits import COUNT_MOST, LAST_MINUTE, TIME_MOST_S
from bittern.control.common_limits import RATE_MOST as COMMON_RATE_MOST
from bittern.control.common_limits import RATIO_MOST as COMMON_RATIO_MOST
from bittern.policy.labels import CHARACTERS_AT_MOST, LABELS_AT_MOST
from bittern.policy.limits import IDLE_MOST_S, PEERS_MOST, RATE_MOST, RATIO_MOST, Mode
from bittern.policy.ordering import MOVED_AT_MOST, Step
from bittern.policy.seedrules import SeedAction
from bittern.policy.selection import LevelName
from bittern.proto.metainfo import MAX_TRACKERS, MAX_URL_BYTES

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{40}$")]
State = Literal[
    "metadata",
    "queued",
    "checking",
    "downloading",
    "moving",
    "seeding",
    "error",
    "held",
    "offline",
    "stopped",
]


Label = Annotated[str, Meta(min_length=1, max_length=CHARACTERS_AT_MOST, pattern=r"^[^,\x00-\x1f]*$")]
Labels = Annotated[list[Label], Meta(max_length=LABELS_AT_MOST)]


MagnetLink = Annotated[str, Meta(pattern=r"^magnet:\?xt=urn:btih:[0-9a-fA-F]{40}(&|$)")]


class Alive(TypedDict):
    """The process lives."""

    alive: Literal[True]


class Ready(TypedDict):
    """The engine beats."""

    ready: Literal[True]


class Counts(TypedDict):
    """All torrents together."""

    torrents: Count
    downloading: Count
    complete: Count
    errors: Count
    held: Count
    offline: Count
    peers: Count
    download_rate: Count
    upload_rate: Count


class SessionView(Counts):
    """The daemon; `limits` hold for all torrents, and `overrides` are those that the configuration does not say."""

    version: str
    port: Annotated[int, Meta(ge=0, le=65535)]
    state_folder: str
    downloads: str
    folders: list[str]
    volumes: list["VolumeView"]
    limits: dict[str, bool | int | float]
    overrides: list[str]


class VolumeView(TypedDict):
    """A file system, and which of the configuration's folders lie on it; `away` says why one cannot be used."""

    folders: list[str]
    free_bytes: Count
    size_bytes: Count
    away: str


class TorrentView(TypedDict):
    """One torrent. `ratio` is null before anything was downloaded, what a tracker counts before it was heard."""

    info_hash: Hash
    name: str
    number: Count
    state: State
    error: str
    retry_in_s: Count | None
    size_bytes: Count
    wanted_bytes: Count
    left_bytes: Count
    progress: Share
    download_rate: Count
    upload_rate: Count
    eta_s: Count | None
    downloaded_bytes: Count
    uploaded_bytes: Count
    ratio: Seconds | None
    peers: Count
    peers_seeding: Count
    swarm_seeds: Count | None
    swarm_leechers: Count | None
    label: str
    labels: list[str]
    folder: str
    moving_to: str
    path: str
    private: bool
    sequential: bool
    priority: int
    rank: float
    piece_count: Count
    piece_length: Count
    added_at: float
    completed_at: float | None
    trackers: list[list[str]]


class SomeOfTorrent(TypedDict, total=False):
    """Those of a torrent's fields that were asked for."""


class Torrents(TypedDict):
    """A list, in the order in which they were added."""

    torrents: list[SomeOfTorrent]


class Named(TypedDict):
    """Which torrent it is, and how it stands."""

    info_hash: Hash
    name: str
    state: State


class Moved(Named):
    """`moving_to` "" when it is there."""

    moving_to: str


class Labelled(TypedDict):
    """Which torrent it is, and the labels that it carries."""

    info_hash: Hash
    name: str
    labels: list[str]


class Renaming(TypedDict):
    """`path` as `files` tells it, or the torrent's name; `name` is no path."""

    path: str
    name: str


class Renamed(TypedDict):
    """How all of it is called now, and where it lies."""

    info_hash: Hash
    name: str
    path: str


class Removed(TypedDict):
    """What is forgotten."""

    info_hash: Hash
    name: str


class Added(TypedDict):
    """`merged`: it was there, and has new trackers now."""

    info_hash: Hash
    name: str
    result: Literal["added", "known", "merged"]


class FileView(TypedDict):
    """A file as it lies on disk; `downloaded` bytes of it are verified."""

    index: Count
    path: str
    name: str
    length: Count
    downloaded: Count
    progress: Share
    complete: bool
    wanted: bool
    priority: LevelName


class Files(TypedDict):
    """All but pad files."""

    files: list[FileView]


class PeerView(TypedDict):
    """Somebody who is connected; "in" came to us."""

    address: str
    port: Annotated[int, Meta(ge=0, le=65535)]
    client: str
    direction: Literal["in", "out"]
    progress: Share
    download_rate: Count
    upload_rate: Count
    downloaded_bytes: Count
    uploaded_bytes: Count
    we_want: bool
    they_want: bool
    we_choke: bool
    they_choke: bool
    connected_s: Count


class Peers(TypedDict):
    """The busiest first."""

    peers: list[PeerView]


class TrackerView(TypedDict):
    """Null where it was not asked yet; the first tier is 0."""

    tier: Count
    url: str
    answered_s_ago: Seconds | None
    next_in_s: Seconds | None
    failures: Count


class Trackers(TypedDict):
    """Tier by tier."""

    trackers: list[TrackerView]


Url = Annotated[str, Meta(max_length=MAX_URL_BYTES, pattern="^(https?|udp)://")]


class TrackersChange(TypedDict, total=False):
    """`tiers` are all anew; then some go, and others come as further tiers."""

    tiers: list[list[Url]]
    add: Annotated[list[Url], Meta(max_length=2 * MAX_TRACKERS)]
    remove: Annotated[list[Url], Meta(max_length=2 * MAX_TRACKERS)]


class RuleView(TypedDict):
    """A rule that will end the seeding; `in_s` is null before more was uploaded."""

    name: str
    action: SeedAction
    in_s: int | None
    why: str


class ExplainView(TypedDict):
    """Why it does what it does, in sentences; `rule` is null where nothing ends its seeding."""

    info_hash: Hash
    name: str
    state: State
    standing: str
    limits: list[str]
    seeding: str
    rule: RuleView | None


class LimitsChange(TypedDict, total=False):
    """Some of a torrent's limits, each with its new value."""

    download_rate: Annotated[float, Meta(ge=0, le=RATE_MOST)]
    download_limited: bool
    upload_rate: Annotated[float, Meta(ge=0, le=RATE_MOST)]
    upload_limited: bool
    heeds_session: bool
    max_peers: Annotated[int, Meta(ge=0, le=PEERS_MOST)]
    seed_ratio: Annotated[float, Meta(ge=0, le=RATIO_MOST)]
    seed_ratio_mode: Mode
    seed_idle_s: Annotated[float, Meta(ge=0, le=IDLE_MOST_S)]
    seed_idle_mode: Mode
    bandwidth_priority: Literal[-1, 0, 1]


class LimitsView(TypedDict):
    """A torrent's own limits; one that is switched off keeps its figure, and a rate of 0 that is on stops."""

    download_rate: float
    download_limited: bool
    upload_rate: float
    upload_limited: bool
    heeds_session: bool
    max_peers: int
    seed_ratio: float
    seed_ratio_mode: Mode
    seed_idle_s: float
    seed_idle_mode: Mode
    bandwidth_priority: int


Rate = Annotated[float, Meta(ge=0, le=COMMON_RATE_MOST)]
Time = Annotated[float, Meta(ge=0, le=TIME_MOST_S)]
Minute = Annotated[int, Meta(ge=0, le=LAST_MINUTE)]
AtOnce = Annotated[int, Meta(ge=0, le=COUNT_MOST)]
PeerCount = Annotated[int, Meta(ge=1, le=COUNT_MOST)]


class CommonLimits(TypedDict, total=False):
    """Some of the limits for all torrents. A rate, a number or a time holds while the flag beside it is true; `alt_`
    are the rates of the slow mode, its times minutes of the day, its days bits from Sunday on. Null: as the
    configuration says.
    """

    download_limited: bool | None
    download_rate: Rate | None
    upload_limited: bool | None
    upload_rate: Rate | None
    alt_enabled: bool | None
    alt_download_rate: Rate | None
    alt_upload_rate: Rate | None
    alt_scheduled: bool | None
    alt_begin_minute: Minute | None
    alt_end_minute: Minute | None
    alt_days: Annotated[int, Meta(ge=0, le=127)] | None
    max_peers: PeerCount | None
    max_peers_per_torrent: PeerCount | None
    downloads_queued: bool | None
    max_downloads: AtOnce | None
    seeds_queued: bool | None
    max_seeds: AtOnce | None
    stalled_noticed: bool | None
    stalled_after_s: Time | None
    seed_ratio_limited: bool | None
    seed_ratio: Annotated[float, Meta(ge=0, le=COMMON_RATIO_MOST)] | None
    seed_idle_limited: bool | None
    seed_idle_s: Time | None


class CommonLimitsView(TypedDict):
    """`overrides` are those that the configuration does not say."""

    limits: dict[str, bool | int | float]
    overrides: list[str]


class QueueMove(TypedDict):
    """They keep their order among themselves."""

    torrents: Annotated[list[Hash], Meta(max_length=MOVED_AT_MOST)]
    to: Step


class Places(TypedDict):
    """Where each stands now, by its info hash; 0 is the first."""

    places: dict[str, Count]


class PiecesView(TypedDict):
    """`have` and `wanted` are bits in base64, `wanted` null where all are; `availability` a byte a piece, 255 for more,
    and null while nobody is asked for pieces.
    """

    count: Count
    length: Count
    have: str
    wanted: str | None
    under_way: list[Count]
    availability: str | None


DeliveryState = Literal["pending", "done", "dead"]


class HookView(TypedDict):
    """A hook's share of a delivery. `output` is the end of what it printed last."""

    target: str
    command: list[str]
    state: DeliveryState
    attempts: Count
    retries_left: Count
    due: float | None
    ended: float | None
    exit_status: int | None
    output: str


class DeliveryView(TypedDict):
    """An event, and what became of telling the hooks that asked for it."""

    id: str
    state: DeliveryState
    event: str
    event_id: str
    time: float
    reason: str
    info_hash: Hash
    name: str
    path: str
    hooks: list[HookView]


class DeliveriesView(TypedDict):
    """`counts` are of all, by state."""

    counts: dict[str, Count]
    deliveries: list[DeliveryView]


class Replayed(TypedDict):
    """It is told again within seconds."""

    id: str


class Happened(TypedDict):
    """Each has `event`, `level`, `at`, and what else there is to tell."""

    events: list[dict[str, Any]]


FileTerms = list[Annotated[int, Meta(ge=0)] | Annotated[str, Meta(min_length=1)]]


class FileChoice(TypedDict, total=False):
    """Numbers, ranges such as "3-7" and patterns such as "*.nfo" of files; all but those of `only` are skipped."""

    only: FileTerms
    skip: FileTerms
    take: FileTerms
    low: FileTerms
    normal: FileTerms
    high: FileTerms
    sequential: bool


class Fault(TypedDict):
    """`code` is for programs and stays, `message` for people."""

    code: str
    message: str


class Refusal(TypedDict):
    """What was asked for was not done."""

    error: Fault
