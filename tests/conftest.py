"""What tests of all rooms share."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest

from tests.fakes.payloads import Payload, make_payload
from tests.fakes.processes import Program, keep_bytecode

keep_bytecode()

# The same examples on every machine, however slow it is; `make fuzz` looks for others.
hypothesis.settings.register_profile(
    "same everywhere",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("same everywhere")


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
