"""The API over TCP: looking is for all who get in, steering for those who may."""

import json
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from bittern.control.access import FAILURES_AT_MOST, hash_password
from bittern.policy.add_terms import AddTerms
from bittern.proto.bencode import decode, encode
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent
from tests.fakes.web import over_tcp


async def rpc(client: httpx.AsyncClient, method: str, **arguments: object) -> dict[str, object]:
    refused = await client.post("/transmission/rpc", json={"method": method})
    assert refused.status_code == 409
    headers = {"X-Transmission-Session-Id": refused.headers["X-Transmission-Session-Id"]}
    answer = await client.post(
        "/transmission/rpc", headers=headers, json={"method": method, "arguments": arguments}
    )
    return dict(answer.json())


async def test_read_only_shows_and_changes_nothing(tmp_path: Path) -> None:
    made = make_torrent("one.bin")
    async with running(tmp_path) as engine, over_tcp(engine, access="read-only") as client:
        await engine.add(made)
        assert (await client.get("/api/v1/torrents")).json()["torrents"][0]["name"] == "one.bin"
        denied = await client.delete(f"/api/v1/torrents/{made.info_hash.hex()}")
        assert (denied.status_code, denied.json()["error"]["code"]) == (403, "read-only")
        assert (await rpc(client, "torrent-get", fields=["name"]))["arguments"] == {
            "torrents": [{"name": "one.bin"}]
        }
        assert "looking only" in str((await rpc(client, "torrent-remove", ids=[1]))["result"])
        assert made.info_hash in engine.session.torrents


@pytest.mark.parametrize("access", ["read-only", "full"])
async def test_passkeys_are_for_who_may_steer(access: str, tmp_path: Path) -> None:
    url, seed = "http://me:word@tracker.example:8080/a1b2/announce?passkey=c3d4", "http://web.example/e5f6/"
    made = make_torrent("one.bin")
    top = decode(made.blob)
    assert isinstance(top, dict)
    blob = encode(top | {b"announce-list": [[url.encode()]], b"url-list": seed.encode()})
    fields = ["magnetLink", "trackerList", "trackerStats", "trackers", "webseeds"]
    async with running(tmp_path) as engine, over_tcp(engine, access=access) as client:
        await engine.session.add(blob, AddTerms(str(engine.downloads)))
        path = f"/api/v1/torrents/{made.info_hash.hex()}"
        listed = await client.get("/api/v1/torrents", params={"fields": "name,trackers"})
        answers = [listed, await client.get(path), await client.get(f"{path}/trackers")]
        told = [answer.text for answer in answers]
        told += [json.dumps(await rpc(client, "torrent-get", fields=[field])) for field in fields]
    for text in map(unquote, told):
        assert "//web.example" in text or "//tracker.example:8080" in text or access == "full", text
        assert (access == "full") == (seed in text or url in text), text
        if access == "read-only":
            assert not any(word in text for word in ("word", "a1b2", "c3d4", "e5f6")), text


async def test_full_changes(tmp_path: Path) -> None:
    made = make_torrent("one.bin")
    async with running(tmp_path) as engine, over_tcp(engine, access="full") as client:
        await engine.add(made)
        assert (await client.delete(f"/api/v1/torrents/{made.info_hash.hex()}")).status_code == 200
        foreign = await client.post(
            "/api/v1/torrents", content=made.blob, headers={"Origin": "http://evil.example"}
        )
        assert foreign.status_code == 403
        bent = await client.get("/api/v1/torrents", headers={"Host": "evil.example"})
        assert bent.status_code == 421
        assert made.info_hash not in engine.session.torrents


async def test_a_password_is_asked_for_and_guessing_stopped(tmp_path: Path) -> None:
    terms = {"access": "full", "password_hash": hash_password("right")}
    async with running(tmp_path) as engine, over_tcp(engine, **terms) as client:
        assert (await client.get("/healthz")).status_code == 200
        asked = await client.get("/api/v1/session")
        assert asked.status_code == 401
        assert asked.headers["WWW-Authenticate"].startswith("Basic ")
        assert (await client.get("/api/v1/session", auth=("me", "right"))).status_code == 200
        for _ in range(FAILURES_AT_MOST):
            assert (await client.get("/api/v1/session", auth=("me", "wrong"))).status_code == 401
        assert (await client.get("/api/v1/session", auth=("me", "wrong"))).status_code == 429
        # who knows it is not shut out by who does not
        assert (await client.get("/api/v1/session", auth=("me", "right"))).status_code == 200
