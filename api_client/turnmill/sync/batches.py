# Made from aio/batches.py by `make sync`: change that.
"""Batches: jobs of many turns from a file and back into one."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from turnmill.domain.arguments import wait_if, wait_seconds
from turnmill.domain.batch_estimates import BatchEstimate
from turnmill.domain.batches import BatchState
from turnmill.domain.errors import (
    BatchTimeout,
    Conflict,
    InvalidInput,
    MissingExtra,
    SessionBusy,
    StoreUnavailable,
    Unstorable,
)
from turnmill.domain.ids import BatchId
from turnmill.executor.thread import Executor, aside, knowing, pause
from turnmill.listening.watchlist import Deadline
from turnmill.prefetch import prefetched
from turnmill.store.batch_records import BatchCounts, BatchRecord, BatchResult
from turnmill.store.nouns.batch_moves import Page
from turnmill.sync.attaching import bounded, lines_with_files
from turnmill.verbs import batch_estimating, batch_states, batches, submitting
from turnmill.verbs.batch_files.sources import path_of
from turnmill.verbs.batch_results import written_to
from turnmill.verbs.batches import OnCounts, shown
from turnmill.verbs.submitting import Submission
from turnmill.verbs.verb import Verb

_SHORTEST_POLL = 0.25
_LONGEST_POLL = 5.0


class Batches:
    """`client.batches`: create, get and list them."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @knowing
    def create(
        self,
        path: str | Path | BinaryIO,
        *,
        mode: str = "auto",
        name: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
        format: str | None = None,  # noqa: A002
        columns: Mapping[str, str] | None = None,
        on_leftover: str = "live",
        reuse: bool = False,
        max_cost_usd: float | Decimal | str | None = None,
        deadline: datetime | timedelta | None = None,
        observers: Sequence[str] = (),
        on_accepted: Callable[[int, int], None] | None = None,
    ) -> "Batch":
        """Make turns of the bulk lane of all lines of a file, once every line stands.

        The file is read as a stream, and its lines are checked and written as they come; nothing
        runs before the last one stands. InvalidBatchFile names the lines that are wrong, and
        nothing is left of the others then. Killed half-way, the same call goes on.

        - `path`: JSON lines, ours or a vendor's, CSV or Parquet, packed by gzip or not; or a file
          that is open for bytes, which is read once. `format` says which, where the name does not.
        - `name`: what the batch is known by; or else it is the file's name and content. The same
          call for the same content returns the batch that stands; Conflict for other content,
          MoveRefused where it was cancelled.
        - `provider`, `model`, `user_id`, `settings`: of lines that do not say them.
        - `mode`: `live`, call by call; `native`, in the vendors' own batches, for half the price
          and within a day; `flex`, call by call in OpenAI's tier of that name; or `auto`, which
          chooses: `batch.record.mode` and `.mode_because` tell. InvalidInput where no provider of
          the lines has it.
        - `on_leftover`: what becomes of lines that a vendor's batch has left, since it expired,
          say: they run by themselves (`live`), or in the `next` one.
        - `columns`: of a table, which column a field stands in: `{"text": "prompt"}`.
        - `reuse`: a line takes the answer of an equal one in a batch of the same user, at no cost.
        - `max_cost_usd`: it is paused before it costs more; lines of models without a price are
          refused. `deadline`, a moment or as long from now: what has not begun by then expires.
        - `observers` are told of the batch and its turns, besides those that are told of all.
        - `on_accepted` is told (lines that stand, lines in all) from time to time.
        """
        submission = Submission(
            path,
            mode=mode,
            name=name,
            provider=provider,
            model=model,
            user_id=user_id,
            settings=settings,
            format=format,
            columns=columns,
            on_leftover=on_leftover,
            reuse=reuse,
            max_cost_usd=max_cost_usd,
            deadline=deadline,
            observers=observers,
            max_text_bytes=self._executor.settings.max_text_bytes,
        )
        aside(submission.identify)
        binds = self._executor.run(batch_estimating.any_budget_binds())
        if binds or submission.is_limited:
            found = self._executor.run(batch_estimating.known())
            here = self._executor.settings
            estimator = aside(batch_estimating.estimator, here, found)
            submission.price_by(estimator if binds else None)
            submission.refuse_unpriced(estimator, of_workers=found.priced)
        record = self._begun(submission)
        batch_id = record.id
        if record.total is None:
            batch_id = self._staged(submission, record, on_accepted)
        elif submission.file.is_read_once:
            aside(submission.read_on)
            self._executor.run(submission.refuse_other(batch_id))
        self._feed(batch_id)
        return self.get(batch_id)

    def estimate(
        self,
        path: str | Path | BinaryIO,
        *,
        provider: str | None = None,
        model: str | None = None,
        user_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
        format: str | None = None,  # noqa: A002
        columns: Mapping[str, str] | None = None,
    ) -> BatchEstimate:
        """Say what a batch of this file would take and cost, and submit nothing.

        The file is read and checked as by `create`, with the same arguments: InvalidBatchFile names
        the lines that are wrong. What a line costs is known where the worker half is installed; the
        first 20,000 lines are looked at one by one, and the others are taken to be like them.
        """
        found = self._executor.run(batch_estimating.known())
        here = self._executor.settings
        estimator = aside(batch_estimating.estimator, here, found)
        trial = Submission(
            path,
            mode="auto",
            name=None,
            provider=provider,
            model=model,
            user_id=user_id,
            settings=settings,
            format=format,
            columns=columns,
            observers=(),
            max_text_bytes=here.max_text_bytes,
        )
        return aside(trial.estimated, estimator, found.limits)

    def get(self, batch: UUID | str) -> "Batch":
        """Return the batch of this id or name, or raise BatchNotFound."""
        return Batch(self._executor, self._executor.run(batches.get(batch)))

    def list(self, *, after: UUID | None = None, limit: int = 100) -> "list[Batch]":
        """Return up to `limit` batches, newest first; `after` is the last id of the page before."""
        found = self._executor.run(batches.find(after=after, limit=limit))
        return [Batch(self._executor, record) for record in found]

    def _begun(self, submission: Submission) -> BatchRecord:
        """Return the batch; what is left of one that cannot be gone on with is removed first."""
        record = self._executor.run(submission.create())
        if submission.begins_anew(record):
            self._discard(record.id)
            record = self._executor.run(submission.create())
        return record

    def _staged(
        self,
        submission: Submission,
        record: BatchRecord,
        on_accepted: Callable[[int, int], None] | None,
    ) -> BatchId:
        """Write the lines, and let the batch run; return which one it is."""
        seen = 0
        checked = submission.checked(small=self._executor.has_one_writer)
        try:
            with closing(prefetched(checked)) as chunks:
                for chunk in chunks:
                    held = lines_with_files(self._executor, submission, chunk)
                    held = bounded(self._executor, submission, chunk, held)
                    self._executor.run(submission.stage(record.id, held))
                    seen += chunk.seen
                    if on_accepted is not None:
                        on_accepted(seen, submission.total)
            self._executor.run(submission.look_for_twins(record.id))
            submission.refuse_wrong()
            sealed = self._executor.run(submission.seal(record))
        except (InvalidInput, MissingExtra, Conflict, Unstorable):
            self._discard(record.id)
            raise
        if sealed != record.id:
            self._discard(record.id)
        return sealed

    def _discard(self, batch_id: BatchId) -> None:
        while self._executor.run(submitting.discard(batch_id)):
            pass

    def _feed(self, batch_id: BatchId) -> None:
        """Make the first turns; workers go on, and while they do there is always room for more."""
        small = self._executor.has_one_writer
        more, made = True, 0
        while more and made < submitting.FIRST:
            fed = self._executor.run(submitting.feed(batch_id, small=small))
            more, made = fed.more, made + fed.lines


class Batch:
    """One batch. `counts` looks at the store each time."""

    def __init__(self, executor: Executor, record: BatchRecord) -> None:
        self._executor = executor
        self.id: BatchId = record.id
        self.name: str = record.name
        self.record: BatchRecord = record  #: as it was when this handle was made

    def __repr__(self) -> str:
        return f"Batch(id={str(self.id)!r}, name={self.name!r})"

    @property
    def counts(self) -> BatchCounts:
        """How many turns are in which state, now. On asyncio it is awaited."""
        return self._executor.run(batches.counts(self.id))

    def wait(
        self,
        *,
        progress: bool | OnCounts = False,
        timeout: float | timedelta | None = None,
    ) -> BatchCounts:
        """Wait until the batch has ended, or is paused, at most `timeout` (seconds or timedelta).

        `progress=True` draws a bar on stderr, and says a line every ten seconds where that is no
        terminal; a function is given the counts. Raises BatchTimeout, which leaves the batch
        running. A database that goes away meanwhile is waited for, too. A batch whose submitter
        was killed half-way is never done: create it again from the same file, or cancel it.
        """
        deadline = Deadline(wait_seconds(timeout))
        counts = self.counts
        with shown(progress) as show:
            show(counts)
            interval = _SHORTEST_POLL
            while not (counts.is_done or counts.state is BatchState.PAUSED):
                if deadline.passed:
                    open_turns = counts.accepted - counts.finished
                    raise BatchTimeout(f"{open_turns} turns of batch {self.id} are unfinished")
                pause(min(interval, deadline.left))
                began = time.monotonic()
                with suppress(StoreUnavailable, SessionBusy):
                    counts = self.counts
                # A look at a large batch costs something: most of the time nobody looks.
                took = time.monotonic() - began
                interval = min(max(10 * took, _SHORTEST_POLL), _LONGEST_POLL)
                show(counts)
        return counts

    def iter_results(
        self, *, follow: bool = False, timeout: float | timedelta | None = None
    ) -> Iterator[BatchResult]:
        """Yield what each line came to, in the order of the file; read in pages.

        With `follow`, each line when it and all before it are final, until the last one is; at most
        for so long (seconds or timedelta), which raises BatchTimeout then.
        """
        deadline = Deadline(wait_if(timeout, follow, name="follow"))
        for page in self._followed(deadline) if follow else self._pages():
            for result in page:
                yield result

    def results(
        self,
        path: str | Path,
        *,
        format: str | None = None,  # noqa: A002
        shape: str | None = None,
        follow: bool = False,
        timeout: float | timedelta | None = None,
    ) -> int:
        """Write what each line came to, in the order of the file; return how many were written.

        - `format`: `jsonl`, `csv` or `parquet`; as the name of the file ends, unless it is said.
        - `shape`: `openai`, and lines are as in the files of its batches; those that are not final
          have none there. Or else they have their state, and no text.
        - `follow`: lines are added as they finish, each after all before it, until the last one
          has; at most for `timeout`, which raises BatchTimeout then.

        The file is there with all its lines, or as before, and a new one is its owner's only; one
        that is followed is begun anew, and grows. Links, devices and FIFOs are written through.
        """
        deadline = Deadline(wait_if(timeout, follow, name="follow"))
        begin = partial(written_to, path_of(path), form=format, shape=shape, follow=follow)
        file = aside(begin)
        try:
            for page in self._followed(deadline) if follow else self._pages():
                aside(file.write_results, page)
            aside(file.finish)
        finally:
            file.close()
        return file.lines

    def pause(self) -> bool:
        """Let no further turn begin until `resume`; what runs comes to its end.

        False where it is paused already; MoveRefused where it has ended, or is not sealed yet.
        """
        done = self._executor.run(batch_states.pause(self.id))
        self._in_pages(batch_states.hold_page)
        return done

    def resume(
        self,
        *,
        max_cost_usd: float | Decimal | str | None = None,
        deadline: datetime | timedelta | None = None,
    ) -> bool:
        """Let a paused batch go on, whatever has stopped it, and with other limits where given.

        `deadline` is a moment, or as long from now. One that runs takes such limits, too; False
        where it runs, and none is given. MoveRefused for any other.
        """
        again = batch_states.resume(self.id, max_cost_usd=max_cost_usd, deadline=deadline)
        done = self._executor.run(again)
        self._in_pages(batch_states.hold_page)
        return done

    def retry_failed(self) -> int:
        """Run failed and dead turns again, and return how many; those of archived sessions stay.

        By themselves, or as `on_leftover` says. MoveRefused where it was cancelled, or has expired.
        """
        self._executor.run(batch_states.mark_running_again(self.id))
        moved = self._in_pages(batches.retry_page)
        self._in_pages(batch_states.hold_page)  # of one that is paused, until it goes on
        return moved

    def cancel(self) -> int:
        """Accept no further line and end what is not final; return how many turns that were.

        Running turns end when their worker has closed the call; see `Turn.cancel`.
        """
        self._executor.run(batches.mark_cancelled(self.id))
        moved = self._in_pages(batches.cancel_page)
        small = self._executor.has_one_writer
        while (self._executor.run(submitting.feed(self.id, small=small))).more:
            pass  # lines that were no turns yet come to nothing
        return moved

    def _pages(self) -> Iterator[list[BatchResult]]:
        page = self._executor.run(batches.results(self.id, after_line=0))
        while page:
            yield page
            page = self._executor.run(batches.results(self.id, after_line=page[-1].line))

    def _followed(self, deadline: Deadline) -> Iterator[Sequence[BatchResult]]:
        """Yield what is final, each page when all before it is."""
        last, interval = 0, _SHORTEST_POLL
        while True:
            page: list[BatchResult] = []
            with suppress(StoreUnavailable, SessionBusy):
                page = self._executor.run(batches.results(self.id, after_line=last))
                if not page and self._is_whole():
                    return
            ready = [*takewhile(lambda one: one.is_final, page)]
            if ready:
                yield ready
                last, interval = ready[-1].line, _SHORTEST_POLL
                continue
            if deadline.passed:
                raise BatchTimeout(f"line {last + 1} of batch {self.id}, or one after it, goes on")
            pause(min(interval, deadline.left))
            interval = min(2 * interval, _LONGEST_POLL)

    def _is_whole(self) -> bool:
        """Tell whether no line will be added any more."""
        record = self._executor.run(batches.get(self.id))
        return record.total is not None or record.cancelled_at is not None

    def _in_pages(self, move: Callable[[BatchId, int], Verb[Page | None]]) -> int:
        moved = 0
        page = self._executor.run(move(self.id, 0))
        while page is not None:
            moved += page.moved
            page = self._executor.run(move(self.id, page.last_line))
        return moved
