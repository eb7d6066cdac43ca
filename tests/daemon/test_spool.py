import json
import os
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.daemon import spool as spool_module
from bittern.daemon.deliveries import (
    LONGEST_PAUSE_S,
    Delivery,
    DeliveryError,
    Run,
    dump_delivery,
    environment,
    load_delivery,
    message,
    placeholders,
)
from bittern.daemon.spool import KEEP, KEEP_ANYWAY, KEEP_S, Spool
from bittern.engine.events import TorrentFacts, new_event_id
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
        "labels": ("films", "hd"),
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
    one = delivery(name=name, path=path, labels=(label, name), trackers=(name,))
    one.runs.append(Run(command=("/x",), timeout_s=1.0, attempts=3, done=True, exit_status=-9, output=output))
    assert same(load_delivery(dump_delivery(one)), one)


def test_a_delivery_of_an_older_bittern_has_its_one_label():
    blob = dump_delivery(delivery(labels=("films",)))
    old = blob.replace(b'labels = [\n    "films",\n]', b'label = "films"')
    assert old != blob
    assert load_delivery(old).facts.labels == ("films",)
    assert load_delivery(old.replace(b'label = "films"', b'label = ""')).facts.labels == ()


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


@pytest.mark.parametrize("dead", [False, True])
def test_an_id_is_taken_once_also_when_it_is_done(spool, dead):
    blob = dump_delivery(delivery())
    assert spool.add([("id-1", blob), ("id-2", blob)]) == {"id-1", "id-2"}
    assert spool.add([("id-1", blob), ("id-3", blob)]) == {"id-3"}
    spool.finish("id-1", blob, dead=dead)
    assert spool.add([("id-1", blob)]) == set()


@pytest.mark.parametrize("dead", [False, True])
def test_what_is_pending_is_found_again_in_order_and_what_is_done_is_not(spool, dead):
    for number in (3, 1, 2):
        spool.add([(f"id-{number}", dump_delivery(delivery(f"id-{number}")))])
    spool.finish("id-2", dump_delivery(delivery("id-2")), dead=dead)
    pending, wrong = spool.load()
    assert [one.event_id for one in pending] == ["id-1", "id-3"]
    assert wrong == []


@pytest.mark.parametrize("dead", [False, True])
def test_a_crash_between_done_and_its_clean_up_does_not_run_it_again(spool, tmp_path, dead):
    spool.add([("id-1", dump_delivery(delivery()))])
    pending = tmp_path / "deliveries" / "pending" / "id-1.toml"
    blob = pending.read_bytes()
    spool.finish("id-1", blob, dead=dead)
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


@pytest.mark.parametrize("state", ["done", "dead"])
def test_those_that_are_over_are_pruned_by_number_and_age(spool, tmp_path, state):
    done = tmp_path / "deliveries" / state
    for number in range(KEEP + 5):
        (done / f"id-{number:05}.toml").touch()
    old = done / f"id-{KEEP - KEEP_ANYWAY:05}.toml"
    os.utime(old, (0, time.time() - KEEP_S - 10))
    spool.prune(time.time())
    left = {path.name for path in done.iterdir()}
    assert len(left) == KEEP - 1
    assert "id-00004.toml" not in left
    assert old.name not in left


def test_a_clock_that_is_set_by_years_purges_no_news(spool, tmp_path):
    done = tmp_path / "deliveries" / "done"
    ids = [new_event_id(1.7e9 + number, random.Random(number)) for number in range(KEEP_ANYWAY + 50)]
    for number, event_id in enumerate(ids):
        (done / f"{event_id}.toml").touch()
        # some were over while the clock stood at 1970, or in the next century
        os.utime(done / f"{event_id}.toml", (0, [0, 1.7e9, 4.1e9][number % 3]))
    spool.prune(1.7e9 + KEEP_S)
    assert len(list(done.iterdir())) == len(ids)
    spool.prune(5e9)
    assert sorted(path.stem for path in done.iterdir()) == ids[-KEEP_ANYWAY:]


def test_a_replay_is_told_again_by_those_that_were_given_up(spool, tmp_path):
    one = delivery()
    one.runs.append(Run(command=("/bin/false",), timeout_s=1.0, retries=1, attempts=2, failures=2, dead=True))
    one.runs[0].done = True
    spool.add([("id-1", dump_delivery(one))])
    spool.finish("id-1", dump_delivery(one), dead=True)
    spool.ask_replay("id-1")
    spool.ask_replay("id-9")
    (found,), (wrong,) = spool.take_replays()
    assert "id-9" in wrong
    assert [run.settled for run in found.runs] == [True, False]
    assert found.runs[1].attempts == 2
    assert [one.event_id for one in spool.load()[0]] == ["id-1"]
    assert [(state, path.stem) for state, path in spool.paths()] == [("pending", "id-1")]
    assert spool.take_replays() == ([], [])


def test_a_replay_of_what_was_told_tells_all(spool):
    one = delivery()
    one.runs[0].done = True
    spool.finish("id-1", dump_delivery(one), dead=False)
    spool.ask_replay("id-1")
    (found,), _ = spool.take_replays()
    assert not found.runs[0].settled


def test_a_replay_that_a_crash_cut_short_is_repeated(spool, tmp_path):
    blob = dump_delivery(delivery())
    spool.finish("id-1", blob, dead=True)
    spool.add([("id-2", blob)])
    # both written, the old one not deleted, the request still there
    (tmp_path / "deliveries" / "pending" / "id-1.toml").write_bytes(blob)
    spool.ask_replay("id-1")
    assert len(spool.load()[0]) == 1
    assert len(spool.take_replays()[0]) == 1
    assert len(spool.load()[0]) == 2


def test_purging_spares_what_is_pending(spool):
    blob = dump_delivery(delivery())
    spool.add([("id-1", blob)])
    spool.finish("id-2", blob, dead=False)
    spool.finish("id-3", blob, dead=True)
    later = time.time() + 10
    assert spool.purge("done", later - 100) == 0
    assert spool.purge("done", later) == 1
    assert spool.purge("pending", later) == 0
    assert [state for state, _ in spool.paths()] == ["pending", "dead"]


def test_purging_passes_over_what_the_daemon_deletes_meanwhile(spool, monkeypatch):
    blob = dump_delivery(delivery())
    spool.finish("id-1", blob, dead=False)
    spool.finish("id-2", blob, dead=False)
    found = list(spool.paths())
    found[0][1].unlink()
    monkeypatch.setattr(spool, "paths", lambda: iter(found))
    assert spool.purge("done", time.time() + 10) == 1


# ---------------------------------------------------------------------------------------- trying again


def test_pauses_double_and_end():
    run = Run(command=("/x",), timeout_s=1.0, retries=12, retry_after_s=10.0)
    pauses = []
    while not run.settled:
        assert run.wait_s(1e9) == 0
        run.ended(1, "no", 1000.0)
        pauses.append(run.wait_s(1000.0))
    assert pauses[:4] == [10.0, 20.0, 40.0, 80.0]
    assert pauses[11] == LONGEST_PAUSE_S
    assert run.dead
    assert len(pauses) == 13


def test_a_clock_that_is_set_back_holds_up_nobody():
    run = Run(command=("/x",), timeout_s=1.0, retries=1, retry_after_s=10.0)
    run.ended(1, "no", 1e9)
    assert run.wait_s(0.0) == 10.0


def test_what_an_older_bittern_spooled_is_run_once():
    old = b"\n".join(
        line
        for line in dump_delivery(delivery()).splitlines()
        if not line.startswith((b"retries", b"retry_after", b"failures", b"dead", b"due"))
    )
    (run,) = load_delivery(old).runs
    run.ended(1, "no", 0.0)
    assert run.dead


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
        "BITTERN_WATCH": "",
        "BITTERN_LABEL": "films",
        "BITTERN_LABELS": "films,hd",
        "BITTERN_REASON": "downloaded",
        "TR_APP_VERSION": env["TR_APP_VERSION"],
        "TR_TORRENT_ID": "7",
        "TR_TORRENT_NAME": "Some Name",
        "TR_TORRENT_DIR": "/d",
        "TR_TORRENT_HASH": "01" * 20,
        "TR_TORRENT_LABELS": "films,hd",
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
    assert "\n" not in json.dumps(message(delivery(name="a\nb", path="/d/\udcff"), 1))


def test_what_was_written_half_is_still_new(spool, tmp_path, monkeypatch):
    entries = [("id-1", b"1"), ("id-2", b"2")]
    real = spool_module.write_many_atomic

    def fails_late(files, **terms):
        real(files[:1], **terms)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module, "write_many_atomic", fails_late)
    with pytest.raises(OSError, match="No space"):
        spool.add(entries)
    monkeypatch.setattr(spool_module, "write_many_atomic", real)
    assert spool.add(entries) == {"id-1", "id-2"}
    assert spool.add(entries) == set()


def test_one_replay_that_cannot_be_served_holds_up_no_other(spool, tmp_path):
    spool.finish("id-1", dump_delivery(delivery()), dead=True)
    odd = dump_delivery(delivery("id-2")).replace(b"attempts = 0", b"attempts = inf")
    spool.finish("id-2", odd, dead=True)
    spool.ask_replay("id-1")
    spool.ask_replay("id-2")
    (tmp_path / "deliveries/replay/id-0").mkdir()
    found, wrong = spool.take_replays()
    assert [one.event_id for one in found] == ["id-1"]
    assert len(wrong) == 1
