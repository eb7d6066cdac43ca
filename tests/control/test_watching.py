"""The alert rules and the dashboard ask for nothing that /metrics does not tell."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from bittern.engine.torrent import State
from tests.fakes.control import controlling
from tests.fakes.engine import running

ETC = Path(__file__).parents[2] / "etc"
NAME = re.compile(r"\b(?:bittern|process|python)_[a-z_]+")
SAID = re.compile(r'(?:state|event)="([^"]+)"')


def expressions(value: Any) -> Iterator[str]:
    """All that are in there."""
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            yield value["expr"]
        for inner in value.values():
            yield from expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner)


async def test_what_is_watched_is_told(tmp_path: Path) -> None:
    alerts = yaml.safe_load((ETC / "bittern-alerts.yml").read_text())
    board = json.loads((ETC / "bittern-dashboard.json").read_text())
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        control.stream.tell({"event": "torrent.added"})
        text = (await control.client.get("/metrics")).text
    told = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    for asked, least in ((list(expressions(alerts)), 6), (list(expressions(board)), 17)):
        assert len(asked) >= least
        for one in asked:
            assert set(NAME.findall(one)) <= told, one
            assert one.count("(") == one.count(")")
    # an event is told by the name that it has in the log; a state is one of ours
    log = (ETC.parent / "src/bittern/daemon/chronicle.py").read_text()
    for one in expressions(alerts):
        for word in SAID.findall(one):
            assert f'"{word}"' in log or word in {state.value for state in State}, one
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)
    assert {name for one in expressions(board) for name in NAME.findall(one)} >= {
        name
        for name in told
        if name.startswith("bittern_") and name != "bittern_build" and not name.endswith("_created")
    }
    panels = board["panels"]
    assert len({one["id"] for one in panels}) == len({one["title"] for one in panels}) == len(panels)
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in panels)
