"""What tests of all rooms share."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest

from tests.fakes.payloads import Payload, make_payload
from tests.fakes.processes import Program, keep_bytecode

keep_bytecode()

TESTS = Path(__file__).parent

# The same examples on every machine, however slow it is; `make fuzz` looks for others.
hypothesis.settings.register_profile(
    "same everywhere",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("same everywhere")


LONG = ("systemd", "interop", "e2e", "bench", "soak", "api")
"""Rooms whose tests run real programs, and mostly wait; the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests are begun first: none is left over when the other worker has nothing more to do, and while they wait
    it has the processors. (Without workers: in the order of the folders, short ones first.)
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        order = {room: number for number, room in enumerate(LONG)}
        items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).parts[0], len(LONG)))


@pytest.fixture(scope="session")
def payload_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Payload]:
    """Payloads are made once and only read; whoever writes copies them."""
    base: Path = tmp_path_factory.mktemp("payloads")
    made: dict[object, Payload] = {}

    def get(name: str, sizes: int | Sequence[int], piece_length: int) -> Payload:
        key = (name, sizes if isinstance(sizes, int) else tuple(sizes), piece_length)
        if key not in made:
            made[key] = make_payload(base / str(len(made)), name, sizes, piece_length)
        return made[key]

    return get


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """Also when a test fails or is interrupted."""
    yield
    while Program.started:
        Program.started.pop().kill()
