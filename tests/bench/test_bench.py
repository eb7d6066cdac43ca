"""The benchmark itself runs; how fast is for `make bench` to say."""

import json
from pathlib import Path

from tests.bench.transfer import main
from tests.fakes.payloads import MIB


def test_a_small_benchmark(tmp_path: Path) -> None:
    main(
        ["--size", str(16 * MIB), "--runs", "1", "--scratch", str(tmp_path), "--json", str(tmp_path / "json")]
    )
    told = json.loads((tmp_path / "json").read_text())["summary"]
    assert told["right"]
    for name in ("bittern leech", "bittern seed", "libtorrent leech", "libtorrent seed"):
        assert told[name]["mb_per_s"] > 0
        assert told[name]["peak_rss_mib"] > 0
