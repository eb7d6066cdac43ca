"""One event as a POST of JSON.

The receiver can tell that it was us by `X-Bittern-Signature-256` (HMAC-SHA256 of the body, as `sha256=<hex>`), and that
it has heard of it before by `X-Bittern-Delivery`. What is secret (headers, the key) is taken from the configuration
and its file at each attempt and kept nowhere else.
"""

import errno
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from bittern.daemon.config import Webhook
from bittern.daemon.deliveries import Delivery, message, placeholders
from bittern.daemon.placeholders import fill
from bittern.daemon.process import OUTPUT_BYTES, Ended, Patience
from bittern.daemon.secret_file import read_secret
from bittern.errors import TrackerError
from bittern.net.http import HttpResponse

ANSWER_BYTES: Final = 64 * 1024
NOT_TOLD: Final = 1
"""Exit status where there was no HTTP status."""


class Posts(Protocol):
    """The HTTP client."""

    async def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str], max_bytes: int, deadline_s: float
    ) -> HttpResponse:
        """`TrackerError` when there is no answer."""


async def post_event(
    http: Posts, webhook: Webhook, delivery: Delivery, attempt: int, *, timeout_s: float, patience: Patience
) -> Ended:
    """Told when the answer is 2xx; else `exit_status` is the HTTP status, or 1 when there was none."""
    body = json.dumps(_filled(webhook.template, delivery) or message(delivery, attempt)).encode()
    headers = {
        "content-type": "application/json",
        "x-bittern-event": delivery.event,
        "x-bittern-delivery": delivery.event_id,
        "x-bittern-attempt": str(attempt),
        # in any case they are the same ones, and sent once
        **{name.lower(): value for name, value in webhook.headers.items()},
    }
    began = trio.current_time()
    status, output, error = NOT_TOLD, "", f"no answer within {timeout_s:g} s"
    with patience.allow(timeout_s) as scope:
        try:
            if webhook.secret_file:
                key = await trio.to_thread.run_sync(
                    read_secret, Path(webhook.secret_file), abandon_on_cancel=True
                )
                if not key:
                    # anybody could sign with it
                    raise OSError(
                        errno.EINVAL, "is empty, so nothing can be signed with it", webhook.secret_file
                    )
                headers["x-bittern-signature-256"] = "sha256=" + hmac.digest(key, body, "sha256").hex()
            answer = await http.post(
                webhook.url, body, headers=headers, max_bytes=ANSWER_BYTES, deadline_s=timeout_s
            )
        except OSError as refused:
            error = f"{refused.filename}: {refused.strerror}"
        except TrackerError as refused:
            error = str(refused)
        else:
            status, error = 0 if 200 <= answer.status < 300 else answer.status, ""
            output = answer.body[:OUTPUT_BYTES].decode("utf-8", "replace").strip()
    return Ended(
        exit_status=status,
        output=output,
        seconds=trio.current_time() - began,
        timed_out=scope.cancelled_caught and not patience.stopping,
        stopped=scope.cancelled_caught and patience.stopping,
        error=error,
    )


def _filled(template: Any, delivery: Delivery) -> Any:
    """Its texts with placeholders replaced, whatever they are nested in."""
    match template:
        case str():
            return fill(template, placeholders(delivery))
        case dict():
            return {key: _filled(value, delivery) for key, value in template.items()}
        case list():
            return [_filled(value, delivery) for value in template]
        case _:
            return template
