"""Which torrents share the rate limits for all, and which have shares of their own."""

from types import SimpleNamespace
from typing import Any

import pytest

from bittern.engine.rate_limits import RateLimits
from bittern.engine.settings import Settings
from bittern.policy.limits import NO_LIMITS, Limits
from bittern.terms import InfoHash

ONE, OTHER = InfoHash(b"1" * 20), InfoHash(b"2" * 20)


def settings(download: float | None = None, upload: float | None = None) -> Settings:
    return Settings(state="", downloads="", download_rate=download, upload_rate=upload)


def torrent(info_hash: InfoHash = ONE, **limits: Any) -> Any:
    return SimpleNamespace(info_hash=info_hash, record=SimpleNamespace(limits=Limits(**limits)))


def test_who_has_none_of_its_own_goes_by_those_for_all() -> None:
    rates = RateLimits(settings(download=1000.0))
    down, up = rates.of(torrent())
    assert (down.rate_per_s, up.rate_per_s) == (1000.0, None)
    assert rates.of(torrent(OTHER)) == (down, up)


def test_own_ones_change_in_place_and_go_when_they_are_lifted() -> None:
    rates = RateLimits(settings(download=1000.0))
    common = rates.of(torrent())
    one = torrent(download_limited=True, download_rate=10.0)
    own = rates.of(one)
    assert own != common
    assert [way.rate_per_s for way in own] == [10.0, None]
    one.record.limits = Limits(download_limited=True, download_rate=20.0, heeds_session=False)
    # its peers may stand in its line
    assert rates.of(one) == own
    assert own[0].rate_per_s == 20.0
    one.record.limits = NO_LIMITS
    assert rates.of(one) == common
    # whoever still holds on to them is held up by those for all alone
    assert own[0].rate_per_s == 1000.0


def test_who_is_parked_begins_anew() -> None:
    rates = RateLimits(settings())
    one = torrent(upload_limited=True, upload_rate=10.0)
    before = rates.of(one)
    rates.forget(ONE)
    rates.forget(OTHER)
    assert rates.of(one) != before


@pytest.mark.parametrize(
    ("before", "after", "urgent"),
    [(None, 10.0, False), (10.0, 20.0, False), (10.0, 0.0, True), (0.0, None, True), (0.0, 0.0, False)],
)
def test_what_stops_or_goes_on_concerns_everybody_at_once(
    before: float | None, after: float | None, urgent: bool
) -> None:
    for way in ("download", "upload"):
        rates = RateLimits(settings(**{way: before}))
        assert rates.apply(settings(**{way: after})) is urgent
        assert after in [limit.rate_per_s for limit in rates.of(torrent())]
