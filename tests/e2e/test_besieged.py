"""A thousand hostile connections at a real daemon, half of them at a download and half at a seed: an honest seed and an
honest leecher knock in the midst of them, and both get what their lines give.

Who is alone with one kind of enemy: `tests/sim/test_besieged_download.py` and `tests/engine/test_sieges.py`.
"""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.measure import peak_rss_bytes
from tests.bench.runner import Place
from tests.bench.sieges import KINDS, Line, besieged
from tests.fakes.payloads import MIB
from tests.fakes.processes import PATIENCE_S, wait_until

RATE = MIB / 4
"""What a busy machine moves beside a siege: what is seen is what the enemies leave, not what they take of it."""

FOR_S = 30.0
EACH = 500
BAN = {"misshapen", "bad"}


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.proof
def test_who_is_honest_gets_what_his_line_gives_among_a_thousand_who_are_not(tmp_path: Path) -> None:
    place = Place(tmp_path, quick=False)
    place.work.mkdir()
    with Line(place, FOR_S, RATE) as line:
        pid, before = line.ours.pid, descriptors(line.ours.pid)
        with ExitStack() as enemies:
            for payload in (line.coming, line.going):
                enemies.enter_context(besieged(place, line.ours.port, payload, EACH))
            # nobody else has anything yet, so it is the liars' data that it tries
            line.ours.wait("peer.banned")
            line.knock()
            told = line.read(FOR_S)
        for payload in (line.coming, line.going):
            lines = (place.work / f"hostile-{payload.name}.log").read_text().splitlines()
            there = [json.loads(one) for one in lines if one.endswith("}")]
            most = {kind: max(one[kind] for one in there) for kind in KINDS}
            assert all(most.values()), f"all kinds were there: {most}"
        assert told["mb_per_s"] >= 0.8 * RATE / 1e6
        assert told["up_mb_per_s"] >= 0.8 * RATE / 1e6
        assert peak_rss_bytes(pid) < 200 * MIB
        hosts = {event["host"] for event in line.ours.events("peer.banned")}
        kinds = {list(KINDS)[int(host.split(".")[1]) - 10] for host in hosts}
        assert kinds == BAN, "both, and nobody else"
        assert not line.ours.events("bug")
        # both honest ones may be there, and a file of each torrent
        wait_until(lambda: descriptors(pid) <= before + 8, PATIENCE_S, "they are gone, and what they held")
