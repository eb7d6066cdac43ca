import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.daemon.deliveries import (
    Delivery,
    DeliveryError,
    Run,
    dump_delivery,
    environment,
    load_delivery,
    message,
    placeholders,
)
from bittern.daemon.spool import KEEP_DONE, KEEP_DONE_S, Spool
from bittern.engine.events import TorrentFacts
from bittern.terms import InfoHash

words = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff\0\n\"'"), max_size=20
)


def delivery(event_id="id-1", **changes):
    facts = {
        "number": 7,
        "info_hash": InfoHash(b"\x01" * 20),
        "name": "Some Name",
        "path": "/d/Some Name",
        "folder": "/d",
        "size_bytes": 123,
        "label": "films",
        "trackers": (
            "http://t.example/announce?passkey=x",
            "udp://[::1]:99/a",
            "https://s.example/a",
            "nonsense",
        ),
        "downloaded_bytes": 456,
    }
    return Delivery(
        event="completed",
        event_id=event_id,
        reason="downloaded",
        at_wall=1_700_000_000.25,
        facts=TorrentFacts(**(facts | changes)),
        runs=[Run(command=("/bin/true", "{name}"), timeout_s=3.5)],
    )


def same(one, other):
    return dump_delivery(one) == dump_delivery(other) and one.facts == other.facts and one.runs == other.runs


@given(words, words, words, words)
def test_any_names_come_back_as_they_were(name, path, label, output):
    one = delivery(name=name, path=path, label=label, trackers=(name,))
    one.runs.append(Run(command=("/x",), timeout_s=1.0, attempts=3, done=True, exit_status=-9, output=output))
    assert same(load_delivery(dump_delivery(one)), one)


@pytest.mark.parametrize("cut", range(0, 500, 7))
def test_a_cut_off_file_is_an_error_of_its_own(cut):
    with pytest.raises(DeliveryError):
        load_delivery(dump_delivery(delivery())[:cut])


@given(st.binary(max_size=50))
def test_any_bytes_load_or_are_an_error_of_its_own(blob):
    with pytest.raises(DeliveryError):
        load_delivery(blob)


def test_a_newer_format_is_not_guessed_at():
    with pytest.raises(DeliveryError, match="format 2"):
        load_delivery(dump_delivery(delivery()).replace(b"format = 1", b"format = 2"))


# ---------------------------------------------------------------------------------------- the folders


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "deliveries")
    assert spool.load() == ([], [])
    return spool


def test_an_id_is_taken_once_also_when_it_is_done(spool):
    blob = dump_delivery(delivery())
    assert spool.add([("id-1", blob), ("id-2", blob)]) == {"id-1", "id-2"}
    assert spool.add([("id-1", blob), ("id-3", blob)]) == {"id-3"}
    spool.finish("id-1", blob)
    assert spool.add([("id-1", blob)]) == set()


def test_what_is_pending_is_found_again_in_order_and_what_is_done_is_not(spool):
    for number in (3, 1, 2):
        spool.add([(f"id-{number}", dump_delivery(delivery(f"id-{number}")))])
    spool.finish("id-2", dump_delivery(delivery("id-2")))
    pending, wrong = spool.load()
    assert [one.event_id for one in pending] == ["id-1", "id-3"]
    assert wrong == []


def test_a_crash_between_done_and_its_clean_up_does_not_run_it_again(spool, tmp_path):
    spool.add([("id-1", dump_delivery(delivery()))])
    pending = tmp_path / "deliveries" / "pending" / "id-1.toml"
    blob = pending.read_bytes()
    spool.finish("id-1", blob)
    pending.write_bytes(blob)
    assert spool.load() == ([], [])
    assert not pending.exists()


def test_a_corrupt_one_is_put_aside_and_temporary_files_are_cleaned_up(spool, tmp_path):
    folder = tmp_path / "deliveries" / "pending"
    (folder / "bad.toml").write_bytes(b"format = ")
    (folder / ".id.toml.tmp1-2").write_bytes(b"half")
    spool.add([("id-1", dump_delivery(delivery()))])
    pending, wrong = spool.load()
    assert [one.event_id for one in pending] == ["id-1"]
    assert len(wrong) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["bad.corrupt", "id-1.toml"]


def test_an_id_is_never_a_path(spool, tmp_path):
    spool.add([("../../x/\udcff", b"")])
    assert len(list((tmp_path / "deliveries" / "pending").iterdir())) == 1


def test_done_ones_are_pruned_by_number_and_age(spool, tmp_path):
    done = tmp_path / "deliveries" / "done"
    for number in range(KEEP_DONE + 5):
        (done / f"id-{number:05}.toml").touch()
    old = done / f"id-{KEEP_DONE:05}.toml"
    os.utime(old, (0, time.time() - KEEP_DONE_S - 10))
    spool.prune(time.time())
    left = {path.name for path in done.iterdir()}
    assert len(left) == KEEP_DONE - 1
    assert "id-00004.toml" not in left
    assert old.name not in left


# ---------------------------------------------------------------------------------------- as it is told


def test_environment_has_ours_and_transmissions_and_nothing_of_systemds():
    inherited = {
        "PATH": "/bin",
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
        "LISTEN_FDS": "1",
        "CREDENTIALS_DIRECTORY": "/run/c",
        "JOURNAL_STREAM": "1:2",
        "TR_TORRENT_NAME": "stale",
    }
    env = environment(delivery(), 2, inherited)
    assert env.pop("TR_TIME_LOCALTIME").split()[-1] == time.strftime("%Y")
    assert env == {
        "PATH": "/bin",
        "BITTERN_EVENT": "completed",
        "BITTERN_EVENT_ID": "id-1",
        "BITTERN_ATTEMPT": "2",
        "BITTERN_INFO_HASH": "01" * 20,
        "BITTERN_NAME": "Some Name",
        "BITTERN_PATH": "/d/Some Name",
        "BITTERN_DIR": "/d",
        "BITTERN_SIZE_BYTES": "123",
        "BITTERN_LABEL": "films",
        "BITTERN_REASON": "downloaded",
        "TR_APP_VERSION": env["TR_APP_VERSION"],
        "TR_TORRENT_ID": "7",
        "TR_TORRENT_NAME": "Some Name",
        "TR_TORRENT_DIR": "/d",
        "TR_TORRENT_HASH": "01" * 20,
        "TR_TORRENT_LABELS": "films",
        "TR_TORRENT_BYTES_DOWNLOADED": "456",
        "TR_TORRENT_PRIORITY": "0",
        "TR_TORRENT_TRACKERS": "t.example:80,[::1]:99,s.example:443",
    }


@given(words, words)
def test_whatever_a_name_is_the_kernel_takes_it(name, path):
    one = delivery(name=name * 5000, path=path * 5000, trackers=(f"http://{name}/",) * 5000)
    for word in (*environment(one, 1, {}).values(), *placeholders(one).values()):
        assert b"\0" not in os.fsencode(word)
        assert len(os.fsencode(word)) < 128 * 1024


def test_message_is_one_line_of_json():
    blob = message(delivery(name="a\nb", path="/d/\udcff"), 1)
    assert blob.count(b"\n") == 1
