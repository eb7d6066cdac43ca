"""Where we listen, where others see us, and whom we have met at the other end of a dial of ours."""

import pytest

from bittern.engine.own_addresses import MET_AT_MOST, OwnAddresses
from bittern.terms import Address

PORT = 1729


class Nodes:
    """The DHT: its IPv6 node is seen."""

    def __init__(self) -> None:
        self.external_hosts = ["2001:db8::5"]
        self.told: list[str] = []

    def located(self, host: str) -> None:
        self.told.append(host)


@pytest.mark.parametrize(
    ("host", "port", "ours"),
    [
        ("127.0.0.1", PORT, True),
        ("::1", PORT, True),
        ("192.0.2.1", PORT, True),
        ("192.0.2.1", PORT + 1, False),
        ("192.0.2.2", PORT, False),
    ],
)
def test_where_we_listen_is_us(host: str, port: int, ours: bool) -> None:
    assert (Address(host, port) in OwnAddresses(("192.0.2.1",), lambda: PORT)) is ours


def test_where_a_dial_led_to_ourselves_is_us_too_as_far_as_memory_goes() -> None:
    own = OwnAddresses((), lambda: PORT)
    met = [Address("198.51.100.1", port) for port in range(MET_AT_MOST + 1)]
    for address in met:
        own.met(address)
    assert [address in own for address in met] == [True] * MET_AT_MOST + [False]


def test_where_others_see_us_is_news_once_and_the_dht_hears_it() -> None:
    dht = Nodes()
    own = OwnAddresses((), lambda: PORT, dht)
    assert own.seen == [Address("2001:db8::5", PORT)]
    # all trackers have one vote, and each network of peers
    voters = [None, *(Address(f"50.{number}.1.1", 6881) for number in range(6))]
    news = [own.seen_as(voter, "8.8.8.8") for voter in voters]
    assert news == [None] * 4 + [Address("8.8.8.8", PORT)] + [None] * 2
    assert dht.told == ["8.8.8.8"]
    assert set(own.seen) == {Address("2001:db8::5", PORT), Address("8.8.8.8", PORT)}
    assert Address("8.8.8.8", PORT) not in own
