"""What the engine needs to be told; the daemon builds it from its configuration file."""

from dataclasses import dataclass
from typing import Literal

from bittern.policy.rights import NO_RIGHTS, Rights
from bittern.policy.seedrules import SeedGuard, SeedRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Rates are bytes per second, None = unlimited (`scrub_rate`: no scrub); `upload_slots` None = automatic;
    `port` 0 = a free one; `udp_port` None = as `port`; `dial_scope` "this-host" = nothing leaves the machine.

    `downloads` is where a torrent goes whose record was lost. `reserve_bytes` stay free on every file system that is
    written to. `rights` are those of torrents that have none of their own. `reserved` are folders of bittern's own: no
    torrent's data is ever put in their place.
    """

    state: str
    downloads: str
    listen: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 — a BitTorrent client is there to be reached
    port: int = 1729
    udp_port: int | None = None
    dial_scope: Literal["any", "this-host"] = "any"
    dht: bool = True
    pex: bool = True
    lsd: bool = True
    dht_bootstrap: tuple[str, ...] = ()
    max_peers: int = 200
    max_peers_per_torrent: int = 50
    numwant: int = 80
    download_rate: float | None = None
    upload_rate: float | None = None
    upload_slots: int | None = None
    open_files: int = 128
    piece_memory: int = 64 * 1024 * 1024
    preallocate: bool = False
    reserve_bytes: int = 256 * 1024 * 1024
    scrub_rate: float | None = None
    rights: Rights = NO_RIGHTS
    reserved: tuple[str, ...] = ()
    max_downloads: int | None = None
    max_seeds: int | None = None
    max_checks: int | None = None
    stalled_after_s: float | None = 600.0
    seed_rules: tuple[SeedRule, ...] = ()
    seed_guards: tuple[SeedGuard, ...] = ()


LIVE_KEYS = frozenset(
    {
        "downloads",
        "max_peers",
        "max_peers_per_torrent",
        "numwant",
        "download_rate",
        "upload_rate",
        "upload_slots",
        "open_files",
        "piece_memory",
        "preallocate",
        "reserve_bytes",
        "scrub_rate",
        "rights",
        "reserved",
        "max_downloads",
        "max_seeds",
        "max_checks",
        "stalled_after_s",
        "seed_rules",
        "seed_guards",
    }
)
"""Fields of `Settings` that `Session.apply` changes in a running engine; the others need a restart."""
