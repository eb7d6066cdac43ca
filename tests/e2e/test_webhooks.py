"""Everybody who can be told of an event, by the real daemon: hooks folder, webhook, notification."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.fakes.bittern_process import Bittern
from tests.fakes.payloads import Payload
from tests.fakes.processes import PATIENCE_S, wait_until
from tests.fakes.receiver import receiving

TOLD = """
[[webhook]]
on = ["added"]
url = "{url}/hook?token=f00dface"
headers = {{ Authorization = "Bearer c0ffee" }}
template = {{ text = "{{name}} was added" }}
retries = 2
retry_after_s = 0.1

[[notify]]
on = ["added"]
urls = ["json://user:d00rkey@{place}/notify"]
title = "{{event}}"
body = "{{name}}"
"""


def test_all_ways_to_be_told(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("told", 20_000, 16384)
    folder = tmp_path / "hooks.d" / "added"
    folder.mkdir(parents=True)
    for name in ("20-second", "10-first"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $BITTERN_NAME" >>{tmp_path}/order\n')
        (folder / name).chmod(0o755)
    (folder / "README").write_text("not a program")
    bittern = Bittern(tmp_path)
    with receiving() as receiver:
        receiver.statuses += [503]
        bittern.write_config(TOLD.format(url=receiver.url, place=receiver.url.removeprefix("http://")))
        with bittern:
            bittern.give(payload)
            # the tests' hook, two of the folder, the webhook's second try, the notification
            bittern.wait("hook.done", count=5, exit_status=0)
            wait_until(
                lambda: list((bittern.state / "deliveries" / "done").iterdir()), PATIENCE_S, "all of it told"
            )
    assert (tmp_path / "order").read_text() == f"10-first {payload.name}\n20-second {payload.name}\n"
    posts = [one for one in receiver.received if one.path.startswith("/hook")]
    assert [one.headers["x-bittern-attempt"] for one in posts] == ["1", "2"]
    assert posts[0].headers["x-bittern-delivery"] == posts[1].headers["x-bittern-delivery"]
    assert json.loads(posts[1].body) == {"text": f"{payload.name} was added"}
    (note,) = [json.loads(one.body) for one in receiver.received if one.path.startswith("/notify")]
    assert (note["title"], note["message"]) == ("added", payload.name)
    log = bittern.out.read_text()
    for secret in ("f00dface", "c0ffee", "d00rkey"):
        assert secret not in log
