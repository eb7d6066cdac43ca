"""A peer as the extension protocol's users meet it."""

from bittern.engine.extensions import Spoken
from bittern.policy.pipeline import Pipeline
from bittern.terms import Address


class FakePartner:
    """Notes what it is told. `numbers`: what it speaks."""

    def __init__(
        self,
        address: Address = Address("192.0.2.7", 4000),  # noqa: B008 — a value
        *,
        extended: bool = True,
        outbound: bool = False,
        listens_on: Address | None = None,
        numbers: dict[str, int] | None = None,
    ) -> None:
        self.address = address
        self.outbound = outbound
        self.extended = extended
        self.spoken = Spoken(0.0)
        self.spoken.numbers.update(numbers or {})
        self.client = ""
        self.listens_on: Address | None = address if outbound else listens_on
        self.pipeline = Pipeline(0.0)
        self.is_seed = False
        self.told: list[bytes] = []

    def say(self, blob: bytes) -> None:
        self.told.append(blob)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
