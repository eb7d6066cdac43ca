"""From blocks that have all landed to a verdict: what the disk is given to hash and write, and what it says.

Invariants: a span goes to the disk once, and its buffer with it; before that, every peer in the middle of filling it is
diverted. A piece that the disk finds good is told of at once, in whatever task and even after the swarm's end, for it
must not be lost; everything else waits for `settle`, in the swarm's own task, and only of pieces that are still under
way: that a large piece is good too, when its spans were hashed as they were written.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial as later
from typing import Protocol

from bittern.disk.attempt import JobCrashed
from bittern.disk.disk import DiskGate, HashJob, PieceOutcome, Verdict, WriteJob
from bittern.disk.storage import Storage
from bittern.engine.peer import Peer
from bittern.engine.spans import SpanDigest
from bittern.policy.partial import Partial
from bittern.proto.layout import Layout


class Verified(Protocol):
    """What it needs of the swarm, and tells it."""

    layout: Layout
    storage: Storage
    disk: DiskGate

    @property
    def peers(self) -> set[Peer]:
        """All who are connected."""

    def piece_written(self, index: int, storage: Storage) -> None:
        """A piece is verified and written: called even after the swarm's end, so that nothing is lost."""

    def span_written(self, index: int, storage: Storage) -> None:
        """A part of a large piece is written, and proves nothing yet."""

    def work(self) -> None:
        """Wakes the swarm's task, which calls `settle`."""

    def contained(self, body: Callable[[], None]) -> None:
        """Runs our work in somebody else's task: an error there is this swarm's end, not theirs."""


class Verifying:
    """One swarm's. `partials` are the pieces under way, by whose owner they are; `span_bytes`: None where pieces are
    held whole.
    """

    def __init__(
        self,
        swarm: Verified,
        partials: Mapping[int, Partial],
        piece_hashes: bytes,
        memory_bytes: int,
        span_bytes: int | None,
    ) -> None:
        self._swarm = swarm
        self._layout = swarm.layout
        self._partials = partials
        self._hashes = piece_hashes
        self._memory_bytes = memory_bytes
        self._span_bytes = span_bytes
        self._digests: dict[int, SpanDigest] = {}
        """Of large pieces of which a span has landed."""
        self._outcomes: list[tuple[WriteJob | HashJob, PieceOutcome]] = []
        self._jobs = 0
        """Submitted and not settled."""

    @property
    def busy(self) -> bool:
        """Has the disk something of ours, or said something that is not settled yet?"""
        return self._jobs > 0

    def forget(self, index: int) -> None:
        """The piece is not under way any more."""
        self._digests.pop(index, None)

    def clear(self) -> None:
        """No piece is. Jobs that the disk still has are told to `piece_written` all the same."""
        self._digests.clear()

    # -- to the disk ----------------------------------------------------------------------------------------

    def landed(self, partial: Partial, span: int) -> None:
        """All blocks of a span have; a piece that is held whole has one."""
        if self._span_bytes is None or partial.span_count == 1:
            self._hand_over(partial, span)
            return
        digest = self._digests.get(partial.index)
        if digest is None:
            digest = self._digests[partial.index] = SpanDigest(self._memory_bytes, self._span_bytes)
        self._hand_over_due(partial, digest, digest.landed(span))

    def _hand_over_due(self, partial: Partial, digest: SpanDigest, due: list[tuple[int, bool]]) -> None:
        for span, hashed in due:
            self._hand_over(partial, span, digest if hashed else None)

    def _hand_over(self, partial: Partial, span: int, digest: SpanDigest | None = None) -> None:
        """A whole piece, or a span of a large one, goes to the disk; its buffer is not ours any more."""
        view = partial.buffers[span]
        assert view is not None
        partial.buffers[span] = None
        peers = self._swarm.peers
        for peer in peers:
            peer.requests.divert(partial, span)
        whole = partial.span_count == 1
        self._jobs += 1
        self._swarm.disk.submit(
            WriteJob(
                storage=self._swarm.storage,
                offset=self._layout.piece_offset(partial.index) + partial.span_range(span)[0],
                body=view,
                expected=self._hash(partial.index) if whole else None,
                done=self._job_done,
                tag=partial,
                # who lacks pieces will ask for this one; what was not hashed is read back
                kept=not (whole or digest) or any(not peer.is_seed for peer in peers),
                digest=digest.sha1 if digest else None,
            )
        )

    def _verdict_on_large(self, partial: Partial) -> Verdict | None:
        """All spans of a large piece are written; None: some have to be read back first."""
        digest = self._digests[partial.index]
        if digest.spans == partial.span_count:
            good = digest.sha1.digest() == self._hash(partial.index)
            return Verdict.VERIFIED if good else Verdict.CORRUPT
        begin = partial.span_range(digest.spans)[0]
        self._jobs += 1
        self._swarm.disk.submit(
            HashJob(
                storage=self._swarm.storage,
                offset=self._layout.piece_offset(partial.index) + begin,
                length=partial.size_bytes - begin,
                expected=self._hash(partial.index),
                done=self._job_done,
                tag=partial,
                digest=digest.sha1,
            )
        )
        return None

    def _hash(self, index: int) -> bytes:
        return self._hashes[20 * index : 20 * index + 20]

    # -- from the disk --------------------------------------------------------------------------------------

    def _job_done(self, job: WriteJob | HashJob, outcome: PieceOutcome) -> None:
        """From the disk, on the loop."""
        self._swarm.contained(later(self._note_outcome, job, outcome))

    def _note_outcome(self, job: WriteJob | HashJob, outcome: PieceOutcome) -> None:
        """What must not be lost is noted here, even when the swarm is gone already."""
        if isinstance(outcome, JobCrashed):
            raise outcome
        if outcome is Verdict.VERIFIED and job.expected is not None:
            self._swarm.piece_written(_partial(job).index, job.storage)
        elif outcome is Verdict.VERIFIED:
            self._swarm.span_written(_partial(job).index, job.storage)
        self._outcomes.append((job, outcome))
        self._swarm.work()

    def settle(self) -> Iterator[tuple[Partial, PieceOutcome]]:
        """What the disk said since the last time, one by one, of pieces that are still under way by then."""
        outcomes, self._outcomes = self._outcomes, []
        self._jobs -= len(outcomes)
        for job, outcome in outcomes:
            partial = _partial(job)
            if self._partials.get(partial.index) is not partial:
                continue
            verdict: PieceOutcome | None = outcome
            if job.expected is None and outcome is Verdict.VERIFIED:
                digest = self._digests[partial.index]
                partial.span_written()
                self._hand_over_due(partial, digest, digest.written(hashed=job.digest is not None))
                verdict = self._verdict_on_large(partial) if partial.all_written else None
                if verdict is Verdict.VERIFIED:
                    self._swarm.piece_written(partial.index, job.storage)
            if verdict is not None:
                yield partial, verdict


def _partial(job: WriteJob | HashJob) -> Partial:
    assert isinstance(job.tag, Partial)
    return job.tag
