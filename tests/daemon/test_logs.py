import json
import logging
import os
import pty
import threading
import time
from contextlib import suppress

import pytest
import structlog

from bittern.daemon import logs
from bittern.daemon.logs import TRACE_CHARS_AT_MOST, LineWriter, choose_style, get_log, held, setup_logs


@pytest.fixture
def lines():
    """Sets the log up on a pipe and reads back what was written."""
    reader, writer = os.pipe()

    def read():
        os.set_blocking(reader, False)
        return os.read(reader, 1 << 16).decode()

    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield writer, read
    root.handlers[:], _ = before
    root.setLevel(before[1])
    structlog.reset_defaults()
    os.close(reader)
    os.close(writer)


def test_json_lines(lines):
    fd, read = lines
    log = get_log()
    setup_logs("info", "json", fd=fd)
    log.info(
        "torrent.added",
        info_hash=b"\x01" * 20,
        name="naïve\n\udcff",
        tiers=("a", 1),
        none=None,
        took_s=1.23456,
    )
    log.debug("unheard")
    text = read()
    assert text.count("\n") == 1
    told = json.loads(text)
    assert list(told)[:3] == ["timestamp", "level", "event"]
    assert told["timestamp"].endswith("Z")
    assert told["level"] == "info"
    assert told["event"] == "torrent.added"
    assert told["info_hash"] == "01" * 20
    assert told["name"] == "naïve\n\udcff"
    assert told["tiers"] == ["a", 1]
    assert told["took_s"] == 1.235
    assert "none" not in told


def test_each_line_has_its_own_time(lines, monkeypatch):
    fd, read = lines
    setup_logs("info", "json", fd=fd)
    for now in (1700000000.0, 1700000000.03125, 1700000001.5, 1700000000.25):
        monkeypatch.setattr("bittern.daemon.logs.time.time", lambda now=now: now)
        get_log().info("tick")
    stamps = [json.loads(line)["timestamp"] for line in read().splitlines()]
    assert stamps == [
        "2023-11-14T22:13:20.000000Z",
        "2023-11-14T22:13:20.031250Z",
        "2023-11-14T22:13:21.500000Z",
        "2023-11-14T22:13:20.250000Z",
    ]


def test_console_lines_cannot_be_broken_or_steered_by_names(lines):
    fd, read = lines
    setup_logs("info", "auto", fd=fd, environ={})
    get_log().warning("drop.rejected", path="/w/a b\n\x1b[2J\u202e\udcff.torrent", ok=True)
    text = read()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert "warning" in text
    assert 'path="/w/a b\\\\n\\\\x1b[2J' in text
    assert "ok=true" in text


def test_journal_lines_carry_priorities_also_in_tracebacks(lines):
    fd, read = lines
    status = os.fstat(fd)
    setup_logs("info", "auto", fd=fd, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    try:
        raise ValueError("broken")
    except ValueError:
        get_log().exception("engine.crashed")
    told = read().splitlines()
    assert told[0].startswith("<3>engine.crashed")
    assert len(told) > 2
    assert all(line.startswith("<3>") for line in told)


def test_a_traceback_is_cut_in_the_middle(lines):
    fd, read = lines
    setup_logs("info", "json", fd=fd)

    def deeper(depth):
        if depth:
            deeper(depth - 1)
        raise ValueError("what a stranger sent: " + "x" * 1_000_000)

    try:
        deeper(300)
    except ValueError:
        get_log().exception("bug")
    trace = json.loads(read())["exception"]
    assert TRACE_CHARS_AT_MOST < len(trace) < TRACE_CHARS_AT_MOST + 100
    assert trace.startswith("Traceback (most recent call last)")
    assert "characters are left out here" in trace


def test_styles():
    parent, child = pty.openpty()
    try:
        assert choose_style("auto", child, {"TERM": "xterm"}) == "colour"
        assert choose_style("auto", child, {"TERM": "xterm", "NO_COLOR": "1"}) == "console"
        assert choose_style("json", child, {}) == "json"
    finally:
        os.close(parent)
        os.close(child)
    assert choose_style("auto", 987654, {"JOURNAL_STREAM": "1:2"}) == "console"


def test_libraries_that_log_urls_are_silent_at_every_level(lines):
    fd, read = lines
    setup_logs("debug", "json", fd=fd)
    for name in ("httpx", "httpcore.http11", "watchdog.observers"):
        logging.getLogger(name).info("GET http://t/announce?passkey=secret")
        logging.getLogger(name).debug("more secrets")
    logging.getLogger("some.package").warning("odd %s", "thing")
    told = json.loads(read())
    assert told["event"] == "library.says"
    assert told["message"] == "odd thing"


def test_setup_again_changes_level_and_style(lines):
    fd, read = lines
    log = get_log()
    setup_logs("error", "json", fd=fd)
    log.info("unheard")
    setup_logs("debug", "console", fd=fd)
    log.debug("heard")
    assert "heard" in read().replace("unheard", "X")


def test_what_is_no_trouble_waits_until_it_is_told_together(lines, monkeypatch):
    fd, read = lines
    log = get_log()
    setup_logs("info", "console", fd=fd)
    wrote = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, blob: wrote.append(blob) or write(fd, blob))
    monkeypatch.setattr(logs, "HELD_AT_MOST_S", 1000.0)
    with held() as tell:
        log.info("one")
        log.info("two")
        assert not wrote
        tell()
        assert [blob.count(b"\n") for blob in wrote] == [2]
        tell()
        log.info("three")
        log.warning("four")
        assert len(wrote) == 2
        log.info("five")
        thread = threading.Thread(target=log.info, args=("six",))
        thread.start()
        thread.join()
        assert len(wrote) == 3
        # a loop that is busy for long holds no more than so much
        monkeypatch.setattr(logs, "HELD_AT_MOST_BYTES", 1000)
        log.info("7" * 1000)
        assert len(wrote) > 3
        wrote.clear()
        log.info("eight")
    assert len(wrote) == 1
    log.info("nine")
    assert len(wrote) == 2
    told = [line.split()[-1][:5] for line in read().splitlines()]
    assert told == ["one", "two", "three", "four", "five", "six", "77777", "eight", "nine"]


def test_a_reload_in_the_midst_of_a_turn_leaves_lines_in_their_order(lines):
    fd, read = lines
    log = get_log()
    setup_logs("info", "console", fd=fd)
    with held():
        log.info("one")
        setup_logs("info", "console", fd=fd)
        log.info("two")
        log.warning("three")
    assert [line.split()[-1] for line in read().splitlines()] == ["one", "two", "three"]


def test_a_turn_that_hangs_hides_no_line_for_long(lines, monkeypatch):
    fd, read = lines
    monkeypatch.setattr(logs, "HELD_AT_MOST_S", 0.01)
    log = get_log()
    setup_logs("info", "console", fd=fd)
    with held():
        # twice, for it may have been told what there was before the second
        for word in ("one", "two"):
            log.info(word)
            waits_until = time.monotonic() + 60
            told = ""
            while not told and time.monotonic() < waits_until:
                time.sleep(0.001)
                with suppress(BlockingIOError):
                    told = read()
            assert word in told


def test_lines_of_many_threads_stay_whole_on_a_nonblocking_pipe():
    reader, fd = os.pipe()
    os.set_blocking(fd, False)
    writer = LineWriter(fd)
    threads = [
        threading.Thread(target=lambda n=n: [writer.write(str(n) * 5000) for _ in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    blob = b""
    while blob.count(b"\n") < 80:
        blob += os.read(reader, 1 << 16)
    for thread in threads:
        thread.join()
    assert {(line[:1], len(line), len(set(line))) for line in blob.splitlines()} == {
        (b"%d" % n, 5000, 1) for n in range(4)
    }
    os.close(reader)
    writer.write("nobody reads this")
    os.close(fd)
