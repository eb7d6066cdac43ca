"""What stays on this machine, and what does not."""

import errno

import pytest
import trio

from bittern.errors import TrackerError
from bittern.net.dialer import Dialer
from bittern.net.http import HttpClient
from bittern.net.scope import ANYWHERE, DialScope
from bittern.terms import Address

HERE = DialScope(this_host=True, own=["0.0.0.0", "192.0.2.7"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "192.0.2.7"]
)
def test_here(host: str) -> None:
    assert HERE.allows(host)


@pytest.mark.parametrize(
    "host", ["192.0.2.8", "8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8", "127.example.org", "example.org", ""]
)
def test_elsewhere(host: str) -> None:
    assert not HERE.allows(host)
    assert ANYWHERE.allows(host)


async def test_nobody_elsewhere_is_dialled() -> None:
    with trio.fail_after(60), pytest.raises(OSError, match="dial_scope") as caught:
        await Dialer(scope=HERE).dial(Address("192.0.2.8", 6881))
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize(
    "url", ["http://192.0.2.8:80/announce", "https://tracker.example.org/", "http://[2001:db8::1]/"]
)
async def test_no_tracker_elsewhere_is_asked(url: str) -> None:
    async with HttpClient(scope=HERE) as http:
        with trio.fail_after(60), pytest.raises(TrackerError, match="dial_scope"):
            await http.get(url, max_bytes=100)
