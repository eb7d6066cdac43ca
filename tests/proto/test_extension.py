"""The extension protocol's handshake, from anybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import ProtocolError
from bittern.proto.bencode import encode
from bittern.proto.extension import (
    CLIENT_NAME_AT_MOST,
    EXTENSIONS_AT_MOST,
    NAME_AT_MOST,
    ExtensionHandshake,
    pack_extension_handshake,
    parse_extension_handshake,
)


def test_packed_as_bep_10_says() -> None:
    payload = pack_extension_handshake(client="bittern 0.1.0", port=1729, reqq=500, your_ip="192.0.2.7")
    assert payload == b"d1:mde1:pi1729e4:reqqi500e1:v13:bittern 0.1.06:yourip4:\xc0\x00\x02\x07e"


def test_comes_back() -> None:
    payload = pack_extension_handshake(
        client="bittern é",
        port=0,
        reqq=250,
        your_ip="2001:db8::7",
        extensions={"ut_pex": 1, "ut_metadata": 2},
        metadata_size=31235,
        upload_only=True,
    )
    assert parse_extension_handshake(payload) == ExtensionHandshake(
        extensions={"ut_pex": 1, "ut_metadata": 2},
        client="bittern é",
        port=None,
        reqq=250,
        your_ip="2001:db8::7",
        metadata_size=31235,
        upload_only=True,
    )


def test_a_seen_handshake() -> None:
    # as libtorrent sends it
    theirs = parse_extension_handshake(
        b"d12:complete_agoi1e1:md11:lt_donthavei7e10:share_modei8e11:upload_onlyi3e12:ut_holepunchi4e"
        b"11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei2048e4:reqqi500e11:upload_onlyi1e"
        b"1:v18:libtorrent/2.0.11.6:yourip4\x3a\x7f\x00\x00\x01e"
    )
    assert theirs.extensions["ut_holepunch"] == 4
    assert theirs.client == "libtorrent/2.0.11."
    assert theirs.reqq == 500
    assert theirs.upload_only
    assert theirs.your_ip == "127.0.0.1"
    assert theirs.port is None


def test_what_stands_behind_it_is_ignored() -> None:
    assert parse_extension_handshake(b"d1:v1:xe trailing").client == "x"


@pytest.mark.parametrize(
    "payload", [b"", b"i1e", b"le", b"d", b"d1:v", b"garbage", b"d1:mi1e1:mi2ee", b"l" * 100]
)
def test_what_is_no_dictionary_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_extension_handshake(payload)


def test_a_bomb_of_values_is_refused() -> None:
    with pytest.raises(ProtocolError):
        parse_extension_handshake(encode({b"m": [0] * 5000}))


def test_entries_that_make_no_sense_are_left_out() -> None:
    theirs = parse_extension_handshake(
        encode(
            {
                b"m": {b"b": 256, b"c": -1, b"d": b"1", b"\xff": 4, b"off": 0, b"ok": 9},
                b"p": 70_000,
                b"reqq": -4,
                b"v": 7,
                b"yourip": b"12345",
                b"metadata_size": 1 << 40,
                b"upload_only": [],
            }
        )
    )
    assert theirs == ExtensionHandshake(extensions={"off": 0, "ok": 9})


def test_the_name_is_fit_for_people() -> None:
    theirs = parse_extension_handshake(encode({b"v": b"\x1b[31mEvil\n\x00\xff" + b"x" * 5000}))
    assert theirs.client.isprintable()
    assert len(theirs.client) == CLIENT_NAME_AT_MOST
    assert theirs.client.startswith("[31mEvil")


@pytest.mark.parametrize(
    ("packed", "host"),
    [
        ("c0000201", "192.0.2.1"),
        ("00000000000000000000ffffc0000201", "192.0.2.1"),
        ("20010db8000000000000000000000001", "2001:db8::1"),
        ("00000000", None),
        ("e0000001", None),
        ("00" * 16, None),
    ],
)
def test_where_we_are_seen(packed: str, host: str | None) -> None:
    assert parse_extension_handshake(encode({b"yourip": bytes.fromhex(packed)})).your_ip == host


def test_extensions_are_bounded() -> None:
    long = b"x" * NAME_AT_MOST
    assert parse_extension_handshake(encode({b"m": {long: 1, long + b"x": 2}})).extensions == {
        long.decode(): 1
    }
    many = {b"%04d" % number: 1 for number in range(300)}
    assert len(parse_extension_handshake(encode({b"m": many})).extensions) == EXTENSIONS_AT_MOST


@given(st.binary(max_size=200))
def test_any_bytes_give_a_handshake_or_a_protocol_error(payload: bytes) -> None:
    try:
        parse_extension_handshake(payload)
    except ProtocolError:
        pass


keys = st.sampled_from([b"m", b"p", b"v", b"reqq", b"yourip", b"metadata_size", b"upload_only"])
values = st.recursive(
    st.integers(-(1 << 62), 1 << 62) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(keys, values))
def test_any_dictionary_is_understood(told: dict[bytes, object]) -> None:
    parse_extension_handshake(encode(told))  # type: ignore[arg-type]  # recursive values are beyond hypothesis' types
