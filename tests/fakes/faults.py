"""A bug to order: something that worked raises what nobody expects, as often as a test wants."""

from collections.abc import Callable
from typing import Any

import pytest


class Bug(Exception):
    """None of bittern's errors."""


class Fault:
    """While it is `on`, calls of `owner.name` that `hits` picks out raise `Bug`; at most `times` of them."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        hits: Callable[..., bool] = lambda *args, **keys: True,
        *,
        times: float = float("inf"),
    ) -> None:
        self.on = True
        self.count = 0
        real = getattr(owner, name)

        def broken(*args: Any, **keys: Any) -> Any:
            if self.on and self.count < times and hits(*args, **keys):
                self.count += 1
                raise Bug(f"{name}, for the {self.count}. time")
            return real(*args, **keys)

        monkeypatch.setattr(owner, name, broken)
