"""Why a torrent does what it does, in sentences: what it waits for, which limits hold, what seeding rules will do."""

import math
from dataclasses import asdict
from typing import Any

import trio

from bittern.control.shapes import ExplainView, RuleView
from bittern.control.units import size
from bittern.engine.session import Session
from bittern.engine.torrent import State, Torrent
from bittern.policy.limits import Limits
from bittern.policy.seedrules import Outlook, duration


def limits_view(torrent: Torrent) -> dict[str, Any]:
    """Its own limits: fields of `Limits`."""
    return asdict(torrent.record.limits)


def explain_view(session: Session, torrent: Torrent) -> ExplainView:
    """`rule` is null where nothing ends its seeding; its `in_s` is null until more was uploaded."""
    outlook = session.seeding.outlook(torrent)
    return {
        "info_hash": torrent.info_hash.hex(),
        "name": torrent.record.name,
        "state": torrent.state.value,
        "standing": _standing(session, torrent),
        "limits": _limits(session, torrent.record.limits),
        "seeding": _seeding(torrent, outlook),
        "rule": None if outlook is None else _rule(outlook),
    }


def _rule(outlook: Outlook) -> RuleView:
    return {
        "name": outlook.rule.name,
        "action": outlook.rule.action,
        "in_s": None if math.isinf(outlook.in_s) else round(outlook.in_s),
        "why": outlook.why(),
    }


def _seeding(torrent: Torrent, outlook: Outlook | None) -> str:
    if outlook is not None:
        return f"rule {outlook.rule.name!r}: it {outlook.sentence()}"
    if torrent.record.kept:
        return "no rule: somebody let it go on after one had stopped it; a limit of its own would hold again"
    if torrent.state is not State.SEEDING:
        return "it does not seed now"
    return "no rule is for it: it seeds until somebody stops it"


def _standing(session: Session, torrent: Torrent) -> str:
    record, settings = torrent.record, session.settings
    match torrent.state:
        case State.STOPPED:
            return f"stopped ({record.stopped or 'it is being removed'}): `bittern resume` lets it go on"
        case State.QUEUED if torrent.ready:
            kind, most = (
                ("seeds", settings.max_seeds) if torrent.complete else ("downloads", settings.max_downloads)
            )
            return f"waits for its turn: {most} {kind} may run at once, and others come first"
        case State.QUEUED:
            return "waits for its data to be checked"
        case State.CHECKING:
            return "what lies on the disk is checked"
        case State.MOVING:
            return "its files are being moved"
        case State.METADATA:
            return "it came by a magnet link: peers are asked what is in it"
        case State.HELD:
            return f"held: {torrent.error or 'there is no room for it on its disk'}"
        case State.OFFLINE:
            return f"offline: {torrent.error or f'the disk of {torrent.data_folder} is not there'}"
        case State.ERROR:
            return f"in error: {torrent.error}{_again(torrent)}"
        case _:
            return _running(session, torrent)


def _again(torrent: Torrent) -> str:
    if torrent.retry_at is None:
        return ""
    in_s = max(0.0, torrent.retry_at - trio.current_time())
    return f"; tried again in {duration(in_s)}, or when it is resumed"


def _running(session: Session, torrent: Torrent) -> str:
    swarm = session.swarms.live.get(torrent.info_hash)
    peers = len(swarm.peers) if swarm is not None else 0
    connected = f"{peers} peer{'' if peers == 1 else 's'} connected"
    if torrent.state is State.SEEDING:
        if swarm is not None and swarm.upload_throttle.stopped:
            return f"complete; {connected}, and an upload limit of 0 lets nobody have anything"
        return f"complete, and seeds; {connected}" if peers else "complete; nobody asks for it now"
    if swarm is not None and swarm.download_throttle.stopped:
        return f"a download limit of 0 lets nothing through; {connected}"
    idle_s = trio.current_time() - torrent.progress_at
    if torrent.stalled:
        return f"stalled: nothing has come for {duration(idle_s)}; {connected}"
    if not peers:
        return "looks for peers: nobody is connected"
    return f"downloads; {connected}"


def _limits(session: Session, limits: Limits) -> list[str]:
    settings, said = session.settings, []
    for way, own, common in (
        ("download", limits.download, settings.download_rate),
        ("upload", limits.upload, settings.upload_rate),
    ):
        if own is not None:
            said.append(f"{way}: {size(own)}/s of its own")
        if common is not None:
            said.append(
                f"{way}: {size(common)}/s for all together"
                + ("" if limits.heeds_session else ", which it does not heed")
            )
    most = limits.max_peers or settings.max_peers_per_torrent
    said.append(f"peers: at most {most}" + (" of its own" if limits.max_peers else ""))
    if limits.bandwidth_priority:
        said.append(f"bandwidth priority: {'high' if limits.bandwidth_priority > 0 else 'low'}")
    return said
