"""Requests as programs made for Transmission send them, with what each of them makes of the answers."""

import base64
import re
from pathlib import Path
from typing import Any

from bittern.engine.events import Completed
from tests.fakes.torrents import make_torrent
from tests.fakes.transmission_rpc import Client, speaking

BOX = make_torrent("box", files=[("a", 40_000), ("sub/b", 50_000)], trackers=[["http://a.example/announce"]])
HASH = BOX.info_hash.hex()
METAINFO = base64.b64encode(BOX.blob).decode()
NO_TRACKERS = make_torrent("box", files=[("a", 40_000), ("sub/b", 50_000)])


def words(text: str) -> list[str]:
    return text.split()


SONARR_FIELDS = [
    "id",
    "hashString",
    "name",
    "downloadDir",
    "totalSize",
    "leftUntilDone",
    "labels",
    "isFinished",
    "eta",
    "errorString",
    "status",
    "secondsDownloading",
    "secondsSeeding",
    "uploadedEver",
    "downloadedEver",
    "seedRatioLimit",
    "seedRatioMode",
    "seedIdleLimit",
    "seedIdleMode",
    "fileCount",
    "file-count",
]

TREMC_LIST = words(
    """
    id name downloadDir status trackerStats desiredAvailable rateDownload rateUpload eta uploadRatio
    sizeWhenDone haveValid haveUnchecked addedDate uploadedEver errorString recheckProgress peersConnected
    uploadLimit downloadLimit uploadLimited downloadLimited bandwidthPriority peersSendingToUs
    peersGettingFromUs seedRatioLimit seedRatioMode isPrivate magnetLink honorsSessionLimits
    metadataPercentComplete queuePosition labels
    """
)

TREMC_DETAILS = words(
    """
    files priorities wanted peers trackers activityDate dateCreated startDate doneDate totalSize leftUntilDone
    comment creator hashString pieceCount pieceSize pieces downloadedEver corruptEver peersFrom
    """
)

QT_MAIN = words(
    """
    added_date download_dir downloaded_ever edit_date error error_string eta file_count hash_string
    have_unchecked have_valid id is_finished labels left_until_done manual_announce_time
    metadata_percent_complete name peers_connected peers_getting_from_us peers_sending_to_us percent_done
    primary_mime_type queue_position rate_download rate_upload recheck_progress seed_ratio_limit
    seed_ratio_mode size_when_done status total_size trackers uploaded_ever webseeds_sending_to_us
    """
)

QT_DETAILS = words(
    """
    comment creator date_created files id is_private labels piece_count piece_size tracker_list trackers
    activity_date bandwidth_priority corrupt_ever desired_available download_limit download_limited
    downloaded_ever file_stats have_unchecked honors_session_limits peer_limit peers seed_idle_limit
    seed_idle_mode start_date tracker_stats upload_limit upload_limited
    """
)


async def said(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    told = await client.post(body)
    assert told["result"] == "success", told
    assert told.get("tag") == body.get("tag")
    return dict(told.get("arguments", {}))


async def test_sonarr_and_radarr(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        # they ask for the session id by GET, and send no arguments where there are none
        asked = await client.control.client.get("/transmission/rpc")
        assert (asked.status_code, "X-Transmission-Session-Id" in asked.headers) == (409, True)
        session = await said(client, {"method": "session-get"})
        # they take the first number of it for Transmission's own
        number = re.match(r"(\d+)\.(\d+)(\.\d+)* \(bittern ", session["version"])
        assert number is not None
        assert (int(number[1]), int(number[2])) >= (2, 40)
        assert int(session["rpc-version"]) >= 14
        folder = f"{session['download-dir']}/tv-sonarr"
        BOX.write(Path(folder))
        add = {
            "metainfo": base64.b64encode(NO_TRACKERS.blob).decode(),
            "download-dir": folder,
            "labels": ["tv-sonarr"],
            "paused": False,
        }
        added = await said(client, {"method": "torrent-add", "arguments": add})
        assert added["torrent-added"]["hashString"] == HASH
        seeding = {
            "ids": [HASH],
            "seedRatioLimit": 1.5,
            "seedRatioMode": 1,
            "seedIdleLimit": 60,
            "seedIdleMode": 1,
        }
        await said(client, {"method": "torrent-set", "arguments": seeding})
        await said(client, {"method": "queue-move-top", "arguments": {"ids": [HASH]}})
        await client.engine.until(Completed)
        told = await said(client, {"method": "torrent-get", "arguments": {"fields": SONARR_FIELDS}})
        (one,) = told["torrents"]
        assert set(one) == set(SONARR_FIELDS)
        assert (one["hashString"], one["downloadDir"], one["labels"]) == (HASH, folder, ["tv-sonarr"])
        assert (one["leftUntilDone"], one["fileCount"], one["status"]) == (0, 2, 6)
        assert (one["seedRatioLimit"], one["seedIdleLimit"], one["errorString"]) == (1.5, 60, "")
        # done with it: it gets another label, and goes
        await said(client, {"method": "torrent-set", "arguments": {"ids": [HASH], "labels": ["tv-imported"]}})
        remove = {"ids": [HASH], "delete-local-data": True}
        await said(client, {"method": "torrent-remove", "arguments": remove})
        link = {"filename": f"magnet:?xt=urn:btih:{HASH.upper()}&dn=box", "download-dir": folder}
        assert "torrent-added" in await said(client, {"method": "torrent-add", "arguments": link})


async def test_tremc(tmp_path: Path) -> None:
    async with speaking(tmp_path) as client:
        BOX.write(client.engine.downloads)

        async def do(method: str, **arguments: Any) -> dict[str, Any]:
            return await said(client, {"method": method, "tag": 1, "arguments": arguments})

        await do("torrent-add", paused=False, metainfo=METAINFO)
        await client.engine.until(Completed)
        # it takes its session id from the text of the refusal
        refused = await client.control.client.post(
            "/transmission/rpc", json={"method": "session-get", "tag": 22}
        )
        known = refused.headers["X-Transmission-Session-Id"]
        assert re.findall(r"X-Transmission-Session-Id:\s*(\w+)", str(refused.content)) == [known]
        # a number comes where there are no arguments
        stats = await said(client, {"method": "session-stats", "tag": 21, "arguments": 21})
        assert (stats["torrentCount"], stats["cumulative-stats"]["sessionCount"]) == (1, 1)
        (one,) = (await do("torrent-get", fields=TREMC_LIST))["torrents"]
        assert set(one) == set(TREMC_LIST)
        assert round(float(one["uploadRatio"]), 2) <= 0
        assert one["haveValid"] + one["haveUnchecked"] == one["sizeWhenDone"] == 90_000
        assert max(stats["seederCount"] for stats in one["trackerStats"]) == -1
        # "no limit" is null, and not a number
        await do("session-set", **{"speed-limit-down": None, "speed-limit-down-enabled": False})
        await do("session-set", **{"speed-limit-up": 50, "speed-limit-up-enabled": True})
        await do("torrent-set", ids=[1], downloadLimit=None, downloadLimited=False)
        await do("torrent-set", ids=[1], seedRatioLimit=None, seedRatioMode=2)
        await do("torrent-set", ids=[1], honorsSessionLimits=False)
        await do("torrent-set", ids=[1], bandwidthPriority=1)
        await do("torrent-set", ids=[1], queuePosition=0)
        await do("torrent-set", ids=[1], labels=["seen"])
        await do("torrent-set", ids=[1], trackerAdd=["udp://b.example:1"])
        (one,) = (await do("torrent-get", ids=[1], fields=["trackers"]))["torrents"]
        await do("torrent-set", ids=[1], trackerRemove=[one["trackers"][-1]["id"]])
        await do("torrent-rename-path", ids=[1], path="box/sub/b", name="c")
        await do("session-set", **{"alt-speed-enabled": True})
        assert (await do("session-get"))["alt-speed-enabled"] is True
        for method in (
            "torrent-stop",
            "torrent-start",
            "torrent-start-now",
            "torrent-verify",
            "torrent-reannounce",
        ):
            await do(method, ids=[1])
        for where in ("up", "down", "top", "bottom"):
            await do(f"queue-move-{where}", ids=[1])
        space = await do("free-space", path=(await do("session-get"))["download-dir"])
        assert space["size-bytes"] > 0
        assert (await do("session-stats"))["torrentCount"] == 1
        await do("torrent-set", ids=[1], **{"files-unwanted": [0]})
        await do("torrent-set", ids=[1], **{"files-wanted": [0], "priority-normal": [0]})
        fields = TREMC_DETAILS + TREMC_LIST
        (one,) = (await do("torrent-get", ids=1, fields=fields))["torrents"]
        assert set(one) == set(fields)
        assert [file["name"] for file in one["files"]] == ["box/a", "box/sub/c"]
        assert len(base64.b64decode(one["pieces"])) == -(-one["pieceCount"] // 8)
        assert (one["wanted"], one["priorities"]) == ([1, 1], [0, 0])


async def test_transmission_qt(tmp_path: Path) -> None:
    """It speaks JSON-RPC where the refusal tells a version, asks for tables, and sets one thing at a time."""
    async with speaking(tmp_path) as client:
        asked = await client.control.client.post(
            "/transmission/rpc", json={"method": "session-get", "tag": 0}
        )
        session = (await said(client, {"method": "session-get"}))["rpc-version-semver"]
        assert asked.headers["X-Transmission-Rpc-Version"] == session

        async def do(method: str, **params: Any) -> dict[str, Any]:
            call = {"jsonrpc": "2.0", "method": method, "id": 5, **({"params": params} if params else {})}
            told = await client.post(call)
            assert (told["jsonrpc"], told["id"]) == ("2.0", 5), told
            return dict(told["result"])

        BOX.write(client.engine.downloads)
        nothing = await do("torrent_get", format="table", fields=["id", "name"])
        assert nothing == {"torrents": [["id", "name"]]}
        await do("torrent_add", metainfo=METAINFO, paused=False, download_dir=str(client.engine.downloads))
        await client.engine.until(Completed)
        for fields in (QT_MAIN, QT_DETAILS):
            heads, row = (await do("torrent_get", format="table", ids=[1], fields=fields))["torrents"]
            assert (heads, len(row)) == (fields, len(fields))
        recent = await do("torrent_get", format="table", ids="recently_active", fields=QT_MAIN)
        heads, row = recent["torrents"]
        seen = dict(zip(heads, row, strict=True))
        assert (recent["removed"], seen["name"], seen["status"], seen["percent_done"]) == ([], "box", 6, 1.0)
        for key, value in {
            "bandwidth_priority": 1,
            "download_limit": 100,
            "download_limited": True,
            "files_unwanted": [0],
            "files_wanted": [0],
            "honors_session_limits": False,
            "labels": ["seen"],
            "peer_limit": 20,
            "priority_low": [1],
            "seed_idle_limit": 5,
            "seed_idle_mode": 1,
            "seed_ratio_limit": 1.5,
            "seed_ratio_mode": 2,
            "tracker_list": "http://b.example/announce",
        }.items():
            assert await do("torrent_set", ids=[1], **{key: value}) == {}
        await do("torrent_rename_path", ids=[1], path="box/a", name="A")
        told = await do("torrent_get", format="table", ids=[1], fields=["file_stats", "files", "id", "name"])
        assert [file["name"] for file in told["torrents"][1][1]] == ["box/A", "box/sub/b"]
        session_now = await do("session_get")
        for key in ("dht_enabled", "download_dir", "encryption", "utp_enabled", "start_added_torrents"):
            assert await do("session_set", **{key: session_now[key]}) == {}
        await do("session_set", seed_ratio_limited=True)
        await do("session_set", alt_speed_time_day=62)
        stats = await do("session_stats")
        assert stats["current_stats"]["files_added"] == 2
        assert {"uploaded_bytes", "seconds_active"} <= set(stats["cumulative_stats"])
        for method in ("torrent_stop", "torrent_start", "queue_move_top", "torrent_verify"):
            assert await do(method, ids=[1]) == {}
        refused = await client.post(
            {"jsonrpc": "2.0", "method": "port_test", "id": 1, "params": {"ip_protocol": "ipv4"}}
        )
        assert "bittern" in refused["error"]["data"]["error_string"]


async def test_remote_guis(tmp_path: Path) -> None:
    """Of older versions: they ask for what changed lately, and send dialogs back."""
    async with speaking(tmp_path) as client:
        BOX.write(client.engine.downloads)
        await client.engine.add(BOX)
        await client.engine.until(Completed)
        session = await said(client, {"method": "session-get", "tag": 4, "arguments": {}})
        # a dialog of preferences sends back what it was told
        keys = "dht-enabled pex-enabled lpd-enabled utp-enabled encryption peer-port download-dir blocklist-enabled"
        back = {key: session[key] for key in keys.split()}
        await said(client, {"method": "session-set", "tag": 5, "arguments": back})
        # true and false are numbers to some
        numbers = {"speed-limit-down": 90, "speed-limit-down-enabled": 1}
        await said(client, {"method": "session-set", "tag": 5, "arguments": numbers})
        asked = {"fields": list(numbers)}
        session = await said(client, {"method": "session-get", "arguments": asked})
        assert session == {"speed-limit-down": 90, "speed-limit-down-enabled": True}
        where = {"ids": [1], "location": str(client.engine.downloads), "move": 1}
        await said(client, {"method": "torrent-set-location", "tag": 5, "arguments": where})
        # null is as good as nothing
        link = {"filename": f"magnet:?xt=urn:btih:{'ab' * 20}", "metainfo": None}
        assert "torrent-added" in await said(client, {"method": "torrent-add", "arguments": link})
        changes = {"seedRatioLimited": True, "seedRatioLimit": 2.0, "download-queue-size": 4}
        await said(client, {"method": "session-set", "tag": 6, "arguments": changes})
        session = await said(
            client, {"method": "session-get", "tag": 7, "arguments": {"fields": list(changes)}}
        )
        assert session == changes
        refused = await client.post(
            {"method": "session-set", "arguments": {"dht-enabled": not back["dht-enabled"]}}
        )
        assert "configuration file" in refused["result"]
        details = [
            "trackerList",
            "availability",
            "peersFrom",
            "corruptEver",
            "dateCreated",
            "primary-mime-type",
        ]
        told = await said(client, {"method": "torrent-get", "arguments": {"ids": [1], "fields": details}})
        assert told["torrents"][0]["trackerList"] == "http://a.example/announce"
        for method in ("port-test", "blocklist-update"):
            assert "bittern" in await client.refused(method)
        assert await said(client, {"method": "group-get", "arguments": {}}) == {"group": []}
