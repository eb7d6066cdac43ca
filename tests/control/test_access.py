"""Who is let in over TCP, decided from the head of a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.control.access import (
    FAILURE_FADES_S,
    FAILURES_AT_MOST,
    HOSTS_REMEMBERED,
    Guessing,
    basic_password,
    hash_password,
    household,
    is_password_hash,
    judge_head,
    own_host,
    verify_password,
)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST.",
        "127.0.0.1:8080",
        "192.168.1.2",
        "[::1]:8080",
        "[::1]",
        "box.example",
    ],
)
def test_hosts_of_ours(host: str) -> None:
    assert own_host(host, ("box.example",))


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "box.example.evil"]
)
def test_names_that_were_bent_to_us(host: str) -> None:
    assert not own_host(host, ("box.example",))
    denied = judge_head("GET", {"host": host}, ("box.example",))
    assert denied is not None
    assert denied.code == "foreign-host"


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({}, True),  # a program
        ({"origin": "http://localhost:8080"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://localhost:9999"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
    ],
)
def test_pages_of_others_change_nothing(headers: dict[str, str], let_in: bool) -> None:
    headers = {"host": "localhost:8080", **headers}
    assert (judge_head("POST", headers, ()) is None) is let_in


def test_a_password_is_kept_as_a_hash() -> None:
    kept = hash_password("Fülle")
    assert is_password_hash(kept)
    assert kept != hash_password("Fülle"), "salted"
    assert verify_password("Fülle", kept)
    assert not verify_password("fülle", kept)
    for wrong in ("", "secret", "scrypt:zz:yy", "scrypt:00:00", kept + "00"):
        assert not is_password_hash(wrong)


@given(st.text())
def test_any_header_is_a_password_or_none(header: str) -> None:
    assert basic_password(header) is None or header.lower().startswith("basic ")


def test_guesses_are_counted_and_forgotten() -> None:
    guessing = Guessing()
    for _ in range(FAILURES_AT_MOST):
        assert not guessing.barred("a", 0)
        guessing.failed("a", 0)
    assert guessing.barred("a", 1)
    assert not guessing.barred("b", 1)
    assert not guessing.barred("a", FAILURE_FADES_S)
    guessing.failed("a", FAILURE_FADES_S)
    assert not guessing.barred("a", FAILURE_FADES_S)
    for host in range(HOSTS_REMEMBERED * 2):
        guessing.failed(str(host), 0)
    assert len(guessing._failures) == HOSTS_REMEMBERED


@pytest.mark.parametrize(
    ("headers", "denied"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, False),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, True),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, True),
    ],
)
def test_other_sites_do_not_make_us_work(headers: dict[str, str], denied: bool) -> None:
    assert (judge_head("GET", {"host": "localhost:8080", **headers}, ()) is not None) is denied


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1", "127.200.3.4", True),
        ("127.0.0.1", "::1", True),
        ("::ffff:127.0.0.9", "::1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
def test_a_guesser_with_many_addresses_is_one(one: str, other: str, same: bool) -> None:
    assert (household(one) == household(other)) is same
