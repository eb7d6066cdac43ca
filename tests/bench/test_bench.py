"""The benchmark itself runs, and judges rightly; how fast bittern is is for `make bench` to say."""

import argparse
import json
import signal
from pathlib import Path

import pytest

from tests.bench import many
from tests.bench.__main__ import main
from tests.bench.crowd import CLIENTS, Contender
from tests.bench.ledger import Ledger, LedgerUnfit
from tests.bench.limits import deviation_percent, worst_percent
from tests.bench.report import Run, Target, Verdict, comparison, faults, judge, medians, row_text
from tests.bench.runner import Place
from tests.fakes.need import need

FOUND = {
    "bittern": {"mb_per_s": 300.0, "cpu_s_per_gib": 2.0, "peak_rss_mib": 170.0},
    "libtorrent tuned": {"mb_per_s": 250.0, "cpu_s_per_gib": 2.5},
    "libtorrent default": {"mb_per_s": 200.0, "cpu_s_per_gib": 1.6},
    "another": {"mb_per_s": 400.0},
}


def run(tmp_path: Path, *words: str) -> dict[str, dict[str, dict[str, float]]]:
    """The medians of those rows; nothing is left but the results."""
    file = tmp_path / "bench.json"
    main([*words, "--quick", "--hasty", "--size", "16M", "--scratch", str(tmp_path), "--json", str(file)])
    told = json.loads(file.read_text())
    for row in told["rows"].values():
        assert all(one["right"] for runs in row["runs"].values() for one in runs)
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    return {name: row["medians"] for name, row in told["rows"].items()}


def test_a_small_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path, "leech", "--only", "bittern")["leech"]
    assert set(found) == {"bittern"}
    for figures in found.values():
        assert figures["mb_per_s"] > 0
        assert figures["peak_rss_mib"] > 0
        assert 0.1 < figures["overhead_percent"] < 1
    file = str(tmp_path / "bench.json")
    assert main(["--compare", file, file]) == 0
    assert "leech: MB/s" in capsys.readouterr().out


def test_a_run_is_put_away_without_its_bytes_and_leaves_its_inodes(tmp_path: Path) -> None:
    place = Place(tmp_path, quick=True)
    source = tmp_path / "source"
    source.write_bytes(b"wanted again")
    for content in (b"one", b"two"):
        (place.work / "got").mkdir(parents=True)
        (place.work / "got" / "file").write_bytes(content)
        (place.work / "linked").hardlink_to(source)
        (place.work / "link").symlink_to(source)
        inode = (place.work / "got" / "file").stat().st_ino
        place.put_away()
        assert not place.work.exists()
        kept = {path.stat().st_ino: path.stat().st_size for path in tmp_path.glob("past*/got/file")}
        assert kept[inode] == 0
    assert len(kept) == 2
    assert source.read_bytes() == b"wanted again"


@pytest.mark.proof
def test_others_are_measured_beside_it(tmp_path: Path) -> None:
    found = run(tmp_path, "leech")["leech"]
    assert set(found) == {"bittern", "libtorrent tuned", "libtorrent default"}
    assert all(figures["mb_per_s"] > 0 for figures in found.values())


@pytest.mark.proof
def test_rows_of_every_kind_run(tmp_path: Path) -> None:
    found = run(tmp_path, "seedraw", "both", "check", "start", "vanish", "--only", "bittern")
    assert found["seedraw"]["bittern"]["mb_per_s"] > 0
    assert found["both"]["bittern"]["to_completed_s"] > -0.01
    assert found["check"]["bittern"]["gb_per_s"] > 0
    assert 0 < found["start"]["bittern"]["first_request_ms"] < found["start"]["bittern"]["hook_ms"]
    assert found["vanish"]["bittern"]["waste_percent"] >= 0


def test_a_small_benchmark_of_many_torrents(tmp_path: Path) -> None:
    file = tmp_path / "many.json"
    words = "--count 20 --pieces 1 --clients bittern --idle 0.2 --settle 0 --hasty"
    assert many.main([*words.split(), "--scratch", str(tmp_path), "--json", str(file)]) == 0
    [run] = json.loads(file.read_text())["rows"]["many20x1"]["runs"]["bittern"]
    assert run["told_stopped"] == 20
    assert run["taken_in_s"] > 0
    # on a slow machine all may be announced before the handshake is looked at
    assert min(run["handshake_s"], run["announced_s"]) > 0


def test_who_would_take_too_long_with_more_torrents_is_left_out() -> None:
    slow: Run = {"count": 1000, "taken_in_s": 40.0, "announced_s": 90.0}
    rows: dict[int, dict[str, list[Run]]] = {
        1000: {"transmission": [slow], "bittern": [slow], "libtorrent": [{"failed": "no answer"}]}
    }
    assert many.why_not("transmission", 3000, rows, 300) == ""
    assert "1000 took it 90 s" in many.why_not("transmission", 5000, rows, 300)
    assert "no answer" in many.why_not("libtorrent", 5000, rows, 300)
    assert many.why_not("libtorrent", 1000, rows, 300) == ""
    # ours is what it is about
    assert many.why_not("bittern", 5000, rows, 300) == ""


def test_a_ledger_goes_on_where_it_was_stopped_and_loses_nothing(tmp_path: Path) -> None:
    file, terms = tmp_path / "many.json", {"commit": "0123abcd", "idle_s": 60.0}
    ledger = Ledger(file, terms, go_on=False)
    ledger.note("many100x1", "bittern", {"count": 100, "rss_mib": 60.0, "right": True})
    ledger.leave_out("many100x1", "transmission", "not here")
    again = Ledger(file, terms, go_on=True)
    assert again.rows() == ["many100x1"]
    assert again.runs("many100x1") == {"bittern": [{"count": 100, "rss_mib": 60.0, "right": True}]}
    assert again.left_out("many100x1") == {"transmission": "not here"}
    before = file.read_text()
    with pytest.raises(LedgerUnfit, match="there already: --go-on"):
        Ledger(file, terms, go_on=False)
    with pytest.raises(LedgerUnfit, match=r"idle_s 60\.0, now 5\.0"):
        Ledger(file, {**terms, "idle_s": 5.0}, go_on=True)
    assert file.read_text() == before
    file.write_text('{"rows": []}')
    with pytest.raises(LedgerUnfit, match="no figures of this kind"):
        Ledger(file, terms, go_on=True)


def test_a_benchmark_of_many_goes_on_with_what_is_not_measured_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[int, str]] = []

    def one(place: Place, kind: type[Contender], count: int, pieces: int, words: argparse.Namespace) -> Run:
        name = next(name for name, known in CLIENTS.items() if known is kind)
        if stopped_at == (count, name):
            raise KeyboardInterrupt
        asked.append((count, name))
        right = (count, name) != (60, "libtorrent")
        run: Run = {"count": count, "taken_in_s": 1.0, "announced_s": 1.0, "right": right}
        run |= {"rss_mib": 60 + count / 1024, "restart_rss_mib": 60.0}
        return run if right else run | {"failed": "ended by itself"}

    monkeypatch.setattr(many, "one", one)
    monkeypatch.setattr(many, "commit", lambda: "0123abcd")
    file = tmp_path / "many.json"
    words = ["--count", "60,20,100", "--pieces", "1", "--clients", "bittern,libtorrent", "--hasty"]
    words += ["--json", str(file), "--scratch", str(tmp_path)]
    stopped_at = (60, "libtorrent")
    assert many.main(words) == 128 + signal.SIGINT
    assert json.loads(file.read_text())["rows"]["many60x1"]["runs"]["bittern"][0]["count"] == 60
    first, stopped_at = [*asked], (0, "")
    assert first == [(20, "bittern"), (20, "libtorrent"), (60, "bittern")]
    with pytest.raises(SystemExit):
        many.main(words)
    assert many.main([*words, "--go-on"]) == 0
    assert asked == [*first, (60, "libtorrent"), (100, "bittern")]
    assert many.main([*words, "--go-on"]) == 0
    assert asked[-2:] == [(100, "bittern"), (60, "libtorrent")], "only what failed is tried again"
    told = json.loads(file.read_text())
    assert told["rows"]["many100x1"]["left_out"] == {"libtorrent": "60 were too many for it: ended by itself"}
    assert told["rows"]["many100x1"]["medians"]["bittern"]["kib_per_torrent"] == pytest.approx(1)
    said = capsys.readouterr().out
    assert "libtorrent failed: ended by itself" in said
    assert "libtorrent was left out: 60 were too many for it" in said


@pytest.mark.proof
def test_many_torrents_in_each_client(tmp_path: Path) -> None:
    need("transmission-daemon")
    words = "--count 20,60 --pieces 1,1000 --idle 1 --settle 0 --hasty"
    file = tmp_path / "many.json"
    assert many.main([*words.split(), "--scratch", str(tmp_path), "--json", str(file)]) == 0
    row = json.loads(file.read_text())["rows"]["many60x1000"]
    assert set(row["medians"]) == {"bittern", "libtorrent", "transmission"}
    assert all("kib_per_torrent" in figures for figures in row["medians"].values())


def test_an_even_rate_has_no_deviation_and_a_gap_has() -> None:
    even = [(at / 100, at * 10) for at in range(1001)]
    assert deviation_percent(even, 1, 8, 1000) == pytest.approx(0, abs=0.2)
    assert worst_percent(even, 1, 8, 1000) == pytest.approx(0, abs=1.1)
    # Half a second of nothing, made up for at once: kept over all of it, and half of a second is missing.
    gap = [(at, got) for at, got in even if not 4 <= at < 4.5]
    assert deviation_percent(gap, 1, 8, 1000) == pytest.approx(0, abs=0.2)
    assert worst_percent(gap, 1, 8, 1000) == pytest.approx(50, abs=5)
    assert deviation_percent(even, 1, 8, 2000) == pytest.approx(50, abs=0.2)


def test_a_median_is_taken_of_what_all_runs_have() -> None:
    runs = [{"a": value, "right": True} for value in (3.0, 1.0, 50.0)]
    runs[0]["b"] = 1.0
    runs[1]["b"] = [2.0]
    runs.append({"failed": "no connection", "right": False})
    assert medians({"bittern": runs, "nobody": []}) == {"bittern": {"a": 3.0}}


@pytest.mark.parametrize(
    ("target", "got", "met", "broken"),
    [
        (Target("mb_per_s", 1.2, "libtorrent"), 1.2, True, False),
        (Target("mb_per_s", 1.3, "libtorrent"), 1.2, False, False),
        (Target("mb_per_s", 0.9, "*"), 0.75, False, False),
        (Target("mb_per_s", 2.5, "libtorrent"), 1.2, False, True),
        (Target("cpu_s_per_gib", 1.2, "libtorrent", at_most=True), 1.25, False, False),
        (Target("cpu_s_per_gib", 1.3, "libtorrent", at_most=True), 1.25, True, False),
        (Target("peak_rss_mib", 160, at_most=True, fails_at=160), 170.0, False, True),
        (Target("mb_per_s", 300), 300.0, True, False),
        (Target("no such", 1, "libtorrent"), None, False, False),
    ],
)
def test_a_target_is_judged_by_the_better_of_the_others(
    target: Target, got: float | None, met: bool, broken: bool
) -> None:
    verdict = judge(FOUND, target)
    assert verdict.got == (None if got is None else pytest.approx(got))
    assert (verdict.met, verdict.broken) == (met, broken)


def test_without_others_there_is_no_ratio() -> None:
    alone = {"bittern": FOUND["bittern"]}
    assert judge(alone, Target("mb_per_s", 1.2, "libtorrent")).got is None
    assert judge({**alone, "libtorrent": {"mb_per_s": 0.0}}, Target("mb_per_s", 1, "*")).got is None


def test_wrong_bytes_and_broken_targets_are_faults() -> None:
    runs = {
        "bittern": [{"right": True}, {"right": False}],
        "libtorrent tuned": [{"right": True}, {"right": False, "failed": "no connection"}],
    }
    verdicts = [
        Verdict("fine", 1.0, met=True, broken=False),
        Verdict("slow", 0.1, met=False, broken=True),
        Verdict("missed", 0.9, met=False, broken=False),
    ]
    assert faults("leech", runs, verdicts) == [
        "leech: bittern: a payload is wrong",
        "leech: libtorrent tuned: no connection",
        "leech: slow, got 0.10: far from it",
    ]


def test_a_table_has_our_ratio_to_the_best_of_the_others() -> None:
    lines = row_text("leech", FOUND, [judge(FOUND, Target("mb_per_s", 1.2, "libtorrent"))], 5).splitlines()
    assert lines[0] == "leech   (medians of 5)"
    assert lines[1].split() == ["MB/s", "CPU-s/GiB", "RSS", "MiB"]
    assert lines[2].split() == ["bittern", "300", "2.00", "170"]
    assert lines[-2].split() == ["ours", "/", "best", "other", "0.75", "1.25", "-"]
    assert lines[-1].split()[0] == "met"


def test_two_commits_are_compared_beside_the_drift_of_the_machine() -> None:
    def file(commit: str, ours: float, theirs: float) -> dict[str, object]:
        found = {"bittern": {"mb_per_s": ours}, "libtorrent": {"mb_per_s": theirs}}
        return {"commit": commit, "rows": {"leech": {"medians": found}, "only " + commit: {"medians": found}}}

    lines = comparison(file("old", 200, 300), file("new", 300, 330)).splitlines()
    assert lines[0].split()[:3] == ["old", "new", "ratio"]
    assert [line.split() for line in lines[1:]] == [["leech:", "MB/s", "200", "300", "1.50", "1.10"]]


def test_what_a_torrent_more_costs_is_counted_from_a_thousand_on() -> None:
    figures = ((100, 90.0), (1000, 100.0), (2000, 110.0), (3000, 118.0))
    runs: list[Run] = [
        {"count": count, "rss_mib": rss_mib, "restart_rss_mib": 50.0} for count, rss_mib in figures
    ]
    many.add_slopes({run["count"]: {"bittern": [run]} for run in reversed(runs)})
    slopes = [(one.get("kib_per_torrent"), one.get("restart_kib_per_torrent")) for one in runs]
    assert slopes == [(None, None), (None, None), (10.24, 0.0), (9.216, 0.0)]
