"""On what terms each drop of one watched folder is taken in; what holds for all of them is found out once."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from bittern.daemon.drop_terms import Terms
from bittern.daemon.profile_schema import Sidecar
from bittern.daemon.profiles import Decision, facts_of
from bittern.policy.add_terms import AddTerms
from bittern.proto.magnet import Magnet
from bittern.proto.metainfo import Metainfo

InThread: TypeAlias = Callable[[Callable[[], Decision]], Awaitable[Decision]]


class Deciding:
    """Of one folder, while its terms are those."""

    def __init__(self, terms: Terms, in_thread: InThread) -> None:
        self._terms = terms
        self._in_thread = in_thread
        self._usual: AddTerms | None = None
        """Of a file of which nothing is known but where it lies; all but its own path."""
        self.looks_inside = terms.profiles is not None and terms.profiles.look_inside(terms.folder)
        """Does it matter what is in a drop?"""

    async def terms_of(
        self, path: str, source: Metainfo | Magnet | None, sidecar: Sidecar | None
    ) -> AddTerms:
        """`SidecarError`."""
        terms = self._terms
        unknown = source is None and sidecar is None
        if unknown and self._usual is not None:
            return replace(self._usual, drop_path=path, receipt=path if terms.receipts else "")
        found = own = terms.own(path)
        if terms.profiles is not None:
            decide = partial(terms.profiles.decide, facts_of(terms.folder, source), sidecar, own)
            # whoever names a folder has to have it looked at
            found = (decide() if sidecar is None else await self._in_thread(decide)).terms
        if unknown:
            self._usual = found
        return found
