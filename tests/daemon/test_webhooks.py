"""Events as POSTs, against a real server over the real client."""

import hashlib
import hmac
import json
import os

import pytest
import trio

from bittern.daemon.config import Webhook
from bittern.daemon.config_reader import Folder
from bittern.daemon.deliveries import Delivery, message
from bittern.daemon.process import Ended, Patience
from bittern.daemon.webhooks import post_event
from bittern.engine.events import TorrentFacts
from bittern.net.http import HttpClient
from bittern.terms import InfoHash
from tests.fakes.receiver import Receiver, receiving

DELIVERY = Delivery(
    event="completed",
    event_id="0199-1",
    reason="downloaded",
    at_wall=12.5,
    facts=TorrentFacts(
        number=1,
        info_hash=InfoHash(b"\x01" * 20),
        name='a "name"\n{path}',
        path="/d/\udcff",
        folder="/d",
        size_bytes=5,
        labels=("films",),
        trackers=(),
        downloaded_bytes=5,
    ),
)


async def post(
    receiver: Receiver, *, timeout_s: float = 20.0, patience: Patience | None = None, **terms: object
) -> Ended:
    webhook = Webhook(on=("completed",), url=f"{receiver.url}/told?key=f00d", **terms)  # type: ignore[arg-type]
    async with HttpClient() as http:
        return await post_event(
            http, webhook, DELIVERY, 3, timeout_s=timeout_s, patience=patience or Patience()
        )


async def test_what_is_sent(tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"k\xffey\n")
    with receiving() as receiver:
        ended = await post(receiver, headers={"Authorization": "Bearer x"}, secret_file=Folder(secret))
    (got,) = receiver.received
    assert ended.exit_status == 0
    assert json.loads(got.body) == message(DELIVERY, 3)
    assert got.path == "/told?key=f00d"
    assert got.headers["authorization"] == "Bearer x"
    assert got.headers["content-type"] == "application/json"
    assert (got.headers["x-bittern-event"], got.headers["x-bittern-delivery"]) == ("completed", "0199-1")
    assert got.headers["x-bittern-attempt"] == "3"
    mac = hmac.new(b"k\xffey", got.body, hashlib.sha256).hexdigest()
    assert got.headers["x-bittern-signature-256"] == f"sha256={mac}"


async def test_a_header_of_ones_own_takes_the_place_of_ours_in_any_case() -> None:
    with receiving() as receiver:
        await post(receiver, headers={"content-TYPE": "application/cloudevents+json"})
    assert receiver.received[0].headers["content-type"] == "application/cloudevents+json"


async def test_a_template_shapes_the_body_and_no_name_can_break_it() -> None:
    template = {"text": "{event}: {name}", "n": 1, "deep": [{"label": "{label}", "brace": "{{}}"}, True]}
    with receiving() as receiver:
        await post(receiver, template=template)
    assert json.loads(receiver.received[0].body) == {
        "text": 'completed: a "name"\n{path}',
        "n": 1,
        "deep": [{"label": "films", "brace": "{}"}, True],
    }


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (204, 0), (301, 301), (404, 404), (503, 503)])
async def test_only_2xx_is_told(status: int, exit_status: int) -> None:
    with receiving() as receiver:
        receiver.statuses.append(status)
        ended = await post(receiver)
    assert ended.exit_status == exit_status
    assert ended.output == ("" if status == 204 else "try later")
    assert len(receiver.received) == 1


async def test_nobody_there() -> None:
    with receiving() as receiver:
        pass
    ended = await post(receiver)
    assert ended.exit_status == 1
    assert "cannot be reached" in ended.error
    assert "f00d" not in ended.error


async def test_a_secret_that_cannot_be_read_is_not_left_out(tmp_path) -> None:
    with receiving() as receiver:
        ended = await post(receiver, secret_file=Folder(tmp_path / "none"))
    assert ended.exit_status == 1
    assert "none: No such file" in ended.error
    assert not receiver.received


async def test_nobody_signs_with_an_empty_key(tmp_path) -> None:
    (tmp_path / "secret").write_bytes(b"\n")
    with receiving() as receiver:
        ended = await post(receiver, secret_file=Folder(tmp_path / "secret"))
    assert "is empty" in ended.error
    assert not receiver.received


async def test_a_fifo_as_secret_holds_up_nothing(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with receiving() as receiver:
        ended = await post(receiver, secret_file=Folder(tmp_path / "fifo"))
    assert "is no regular file" in ended.error
    assert not ended.timed_out
    assert not receiver.received


async def test_one_that_never_answers_is_left(autojump_clock: trio.testing.MockClock) -> None:
    class Silent:
        async def post(self, *words: object, **terms: object) -> None:
            await trio.sleep_forever()

    webhook = Webhook(on=("completed",), url="http://x/")
    ended = await post_event(Silent(), webhook, DELIVERY, 1, timeout_s=5.0, patience=Patience())  # type: ignore[arg-type]
    assert (ended.exit_status, ended.timed_out, ended.stopped) == (1, True, False)
    patience = Patience()
    patience.end_by(trio.current_time() + 2)
    ended = await post_event(Silent(), webhook, DELIVERY, 1, timeout_s=5.0, patience=patience)  # type: ignore[arg-type]
    assert (ended.timed_out, ended.stopped) == (False, True)
