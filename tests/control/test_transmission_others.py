"""Requests as programs made for Transmission send them, with what each of them makes of the answers."""

import base64
from pathlib import Path
from typing import Any

from bittern.engine.events import Completed
from tests.fakes.torrents import make_torrent
from tests.fakes.transmission_rpc import Client, speaking

BOX = make_torrent("box", files=[("a", 40_000), ("sub/b", 50_000)], trackers=[["http://a.example/announce"]])
HASH = BOX.info_hash.hex()
METAINFO = base64.b64encode(BOX.blob).decode()
NO_TRACKERS = make_torrent("box", files=[("a", 40_000), ("sub/b", 50_000)])

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

TREMC_FIELDS = [
    "id",
    "downloadDir",
    "name",
    "trackerStats",
    "status",
    "trackers",
    "rateDownload",
    "rateUpload",
    "eta",
    "uploadRatio",
    "sizeWhenDone",
    "haveValid",
    "haveUnchecked",
    "addedDate",
    "uploadedEver",
    "error",
    "errorString",
    "recheckProgress",
    "peersConnected",
    "uploadLimit",
    "downloadLimit",
    "uploadLimited",
    "downloadLimited",
    "bandwidthPriority",
    "peersSendingToUs",
    "peersGettingFromUs",
    "totalSize",
    "leftUntilDone",
    "desiredAvailable",
    "seedRatioLimit",
    "seedRatioMode",
    "isPrivate",
    "magnetLink",
    "honorsSessionLimits",
    "metadataPercentComplete",
    "queuePosition",
    "labels",
]

TABLE_FIELDS = [
    "id",
    "name",
    "status",
    "addedDate",
    "leftUntilDone",
    "sizeWhenDone",
    "recheckProgress",
    "metadataPercentComplete",
    "rateDownload",
    "rateUpload",
    "queuePosition",
    "error",
    "errorString",
    "webseedsSendingToUs",
    "activityDate",
    "percentDone",
    "isStalled",
]


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
        assert session["version"]
        assert int(session["rpc-version"]) >= 14
        folder = f"{session['download-dir']}/tv-sonarr"
        BOX.write(Path(folder))
        add = {
            "metainfo": base64.b64encode(NO_TRACKERS.blob).decode(),
            "download-dir": folder,
            "labels": ["tv-sonarr"],
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
        (one,) = (await do("torrent-get", fields=TREMC_FIELDS))["torrents"]
        assert set(one) == set(TREMC_FIELDS)
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
        fields = [
            "id",
            "files",
            "priorities",
            "wanted",
            "peers",
            "pieces",
            "pieceCount",
            "comment",
            "creator",
        ]
        (one,) = (await do("torrent-get", ids=[1], fields=fields))["torrents"]
        assert [file["name"] for file in one["files"]] == ["box/a", "box/sub/c"]
        assert len(base64.b64decode(one["pieces"])) == -(-one["pieceCount"] // 8)
        assert (one["wanted"], one["priorities"]) == ([1, 1], [0, 0])


async def test_transmission_qt_and_remote_guis(tmp_path: Path) -> None:
    """They ask for tables, for what changed lately, and set single keys of the session."""
    async with speaking(tmp_path) as client:
        BOX.write(client.engine.downloads)
        await client.engine.add(BOX)
        await client.engine.until(Completed)
        ask = {"ids": "recently-active", "fields": TABLE_FIELDS, "format": "table"}
        told = await said(client, {"method": "torrent-get", "tag": 3, "arguments": ask})
        heads, row = told["torrents"]
        assert (heads, told["removed"]) == (TABLE_FIELDS, [])
        seen = dict(zip(heads, row, strict=True))
        assert (seen["name"], seen["status"], seen["percentDone"]) == ("box", 6, 1.0)
        session = await said(client, {"method": "session-get", "tag": 4, "arguments": {}})
        # a dialog of preferences sends back what it was told
        keys = "dht-enabled pex-enabled lpd-enabled utp-enabled encryption peer-port download-dir blocklist-enabled"
        back = {key: session[key] for key in keys.split()}
        await said(client, {"method": "session-set", "tag": 5, "arguments": back})
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
