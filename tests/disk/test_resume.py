"""Resume records: round trip, damage noticed, formats."""

import base64
import dataclasses
import tomllib
import zlib

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from bittern.disk.recordlines import plain_table
from bittern.disk.resume import (
    FEW_BYTES,
    FORMAT,
    PLAIN_FORMAT,
    RECORD_KEYS,
    SELECTION_FORMAT,
    RecordCorrupt,
    ResumeRecord,
    dump_record,
    load_record,
    pack_stamps,
    unpack_stamps,
)
from bittern.disk.stamps import FileStamp
from bittern.disk.toml import remembered_lines
from bittern.errors import StateError
from bittern.policy.limits import Limits
from bittern.terms import InfoHash

RECORD = ResumeRecord(
    info_hash=InfoHash(bytes(range(20))),
    name="debian-12.5.0-amd64-netinst.iso",
    root="debian-12.5.0-amd64-netinst.iso",
    folder="/srv/bittern/downloads",
    incomplete_folder="/srv/bittern/incomplete",
    label="linux",
    state="downloading",
    number=17,
    total_bytes=659_554_304,
    piece_length=262_144,
    piece_count=2516,
    have=bytes(range(256)) + bytes(59),
    stamps=(FileStamp(659_554_304, 1_700_000_000_123_456_789), None, FileStamp(0, 5)),
    clean=True,
    shared=False,
    uploaded_bytes=123_456_789_012,
    downloaded_bytes=659_554_304,
    added_wall=1_700_000_000.25,
    completed_wall=None,
    completed_event_id="",
    completed_reason="",
    completed_spooled=False,
    moving_to="",
    drop_path="/srv/bittern/drop/debian.torrent",
    tie=False,
    trackers=(("http://a.example/announce", "http://b.example/announce"), ("udp://c.example:1/",)),
    private=False,
    checked=True,
)


def changed(**fields):
    return dataclasses.replace(RECORD, **fields)


def test_a_record_comes_back_as_it_was():
    assert load_record(dump_record(RECORD)) == RECORD


@pytest.mark.parametrize(
    "fields",
    [
        {
            "state": "complete",
            "have": b"",
            "completed_wall": 1.5,
            "completed_event_id": "e",
            "completed_spooled": True,
        },
        {"drop_path": "/drop/\udcff\udcfe.torrent", "root": "base64:x", "label": "zwölf \"\\\n\x01'"},
        {"trackers": (), "stamps": (), "have": b"", "name": ""},
        {"piece_count": 0, "have": b"", "total_bytes": 0},
        {"shared": True, "tie": True, "private": True, "clean": False, "moving_to": "/elsewhere"},
    ],
)
def test_special_values_come_back_too(fields):
    assert load_record(dump_record(changed(**fields))) == changed(**fields)


@settings(deadline=None)
@given(
    name=st.text(),
    drop_path=st.binary(max_size=50),
    uploaded=st.integers(0, 2**62),
    tiers=st.lists(st.lists(st.text())),
)
def test_any_values_come_back(name, drop_path, uploaded, tiers):
    record = changed(
        name=name,
        drop_path=drop_path.decode("utf-8", "surrogateescape"),
        uploaded_bytes=uploaded,
        trackers=tuple(map(tuple, tiers)),
    )
    assert load_record(dump_record(record)) == record


def test_what_an_older_bittern_would_misread_has_a_format_of_its_own():
    record = dataclasses.replace(RECORD, selection="2-n", wanted=RECORD.have, parted=b"\x80")
    blob = dump_record(record)
    assert tomllib.loads(blob.decode())["format"] == SELECTION_FORMAT
    assert load_record(blob) == record
    for other in (
        dataclasses.replace(record, renames='{"a":"b"}'),
        dataclasses.replace(record, renaming="x"),
    ):
        assert tomllib.loads(dump_record(other).decode())["format"] == FORMAT
        assert load_record(dump_record(other)) == other
    # all files are wanted again, and the bytes of one are not yet where they were
    assert (
        tomllib.loads(dump_record(dataclasses.replace(RECORD, parted=b"\x80")).decode())["format"]
        == SELECTION_FORMAT
    )


def test_the_file_is_flat_toml_with_a_key_a_line():
    blob = dump_record(RECORD)
    table = tomllib.loads(blob.decode())
    assert table["format"] == PLAIN_FORMAT
    assert table["name"] == RECORD.name
    assert table["info_hash"] == RECORD.info_hash.hex()
    assert not any(isinstance(value, dict) for value in table.values())
    assert b'\nlabel = "linux"\n' in blob


def test_what_we_write_is_read_without_a_whole_parser():
    everything = changed(
        **{
            field.name: {str: "x", int: 3, float: 2.5, bool: True}.get(type(field.default), field.default)
            for field in dataclasses.fields(RECORD)
            if isinstance(field.default, (str, int, float))
        }
    )
    for record in (
        RECORD,
        dataclasses.replace(everything, limits=Limits(download_rate=1.5, download_limited=True, max_peers=3)),
    ):
        text = dump_record(record).decode()
        assert plain_table(text, RECORD_KEYS) == tomllib.loads(text)


def test_every_truncation_is_noticed():
    blob = dump_record(RECORD)
    for length in range(len(blob) - 1):
        with pytest.raises(RecordCorrupt):
            load_record(blob[:length])
    with pytest.raises(RecordCorrupt):
        load_record(blob + b"x = 1\n")


def test_every_changed_byte_is_noticed():
    blob = dump_record(RECORD)
    format_digit = blob.index(b"format = ") + len(b"format = ")
    for at in range(len(blob)):
        if at == format_digit:
            continue
        damaged = bytearray(blob)
        damaged[at] ^= 0x04
        with pytest.raises((RecordCorrupt, StateError)) as caught:
            load_record(bytes(damaged))
        assert caught.type is RecordCorrupt or at < format_digit + 2
        assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_corrupt_and_nothing_else(blob):
    with pytest.raises(RecordCorrupt):
        load_record(blob)


@pytest.mark.parametrize("blob", [b"", b"\0" * 4096, b"[" * 5000, b"format = true\n", b"x = " + b"[" * 5000])
def test_garbage_is_corrupt(blob):
    with pytest.raises(RecordCorrupt):
        load_record(blob)


def resealed(**changes):
    """A record with values of the wrong kind under a right checksum: a bug of another version."""
    table = tomllib.loads(dump_record(RECORD).decode())
    del table["checksum"]
    for key, value in changes.items():
        if value is None:
            del table[key]
        else:
            table[key] = value
    table["format"] = 0
    return tomli_w.dumps(table).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 5},
        {"number": "x"},
        {"number": True},
        {"total_bytes": -1},
        {"clean": 1},
        {"info_hash": "xyz"},
        {"info_hash": "00"},
        {"info_hash": None},
        {"have": "AA=="},
        {"have": "!"},
        {"have": 7},
        {"stamps": "AA=="},
        {"stamps": [1]},
        {"trackers": [[1]]},
        {"trackers": ["x", 1]},
        {"state": "dancing"},
        {"completed_wall": "now"},
        {"drop_path": "base64:?"},
        {"root": None},
    ],
)
def test_values_that_do_not_fit_are_corrupt(changes):
    with pytest.raises(RecordCorrupt):
        load_record(resealed(**changes))


def test_a_newer_format_is_refused_with_the_version_to_install():
    for blob in (
        dump_record(RECORD).replace(b"format = 1", b"format = 4"),
        b'format = 99\nwritten_by = "bittern 7.1"\n[something.new]\nx = 1\n',
    ):
        with pytest.raises(StateError, match="newer than this bittern's") as caught:
            load_record(blob)
    assert "bittern 7.1" in str(caught.value)


FORMAT_0 = """\
format = 0
info_hash = "000102030405060708090a0b0c0d0e0f10111213"
name = "old"
root = "old"
folder = "/srv/old"
total_bytes = 100000
piece_length = 16384
piece_count = 7
complete = true
uploaded_bytes = 55
added_wall = 1600000000
"""


def test_an_older_format_is_upgraded_and_checked_again():
    record = load_record(FORMAT_0.encode())
    assert record.state == "complete"
    assert record.uploaded_bytes == 55
    assert record.added_wall == 1_600_000_000.0
    assert (record.have, record.stamps, record.clean, record.checked) == (b"", (), False, False)
    assert load_record(dump_record(record)) == record
    still = load_record(FORMAT_0.replace("complete = true", "complete = false").encode())
    assert still.state == "downloading"
    with pytest.raises(RecordCorrupt, match="folder"):
        load_record(FORMAT_0.replace("folder", "fodler").encode())


@pytest.mark.parametrize("count", [1, 2, FEW_BYTES // 16, FEW_BYTES // 16 + 1, 1000])
def test_stamps_are_one_string(count):
    stamps = tuple(
        FileStamp(n * 1000, 1_700_000_000_000_000_000 + n) if n % 7 else None for n in range(count)
    )
    packed = pack_stamps(stamps)
    assert unpack_stamps(packed) == stamps
    assert len(packed) < 24 * count + 32
    for broken in ("!", "AAAA", packed[:-8], base64.b64encode(zlib.compress(b"x")).decode()):
        with pytest.raises(ValueError, match=r".*"):
            unpack_stamps(broken)


def test_how_few_trackers_read_is_remembered_and_how_many_is_not() -> None:
    few, many = (tuple((f"http://{n}.example/",) for n in range(count)) for count in (16, 17))
    records = [dataclasses.replace(RECORD, trackers=trackers) for trackers in (few, many)]
    remembered_lines.cache_clear()
    for record in records:
        assert load_record(dump_record(record)) == record
        dump_record(record)
    known = remembered_lines.cache_info().currsize
    dump_record(dataclasses.replace(RECORD, trackers=()))
    assert remembered_lines.cache_info().currsize == known
    remembered_lines("trackers", few)
    assert remembered_lines.cache_info().currsize == known
    remembered_lines("trackers", many)
    assert remembered_lines.cache_info().currsize == known + 1
