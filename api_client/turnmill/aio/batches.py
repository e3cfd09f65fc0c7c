"""Batches: jobs of many turns from a file and back into one."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from turnmill.domain.arguments import wait_seconds
from turnmill.domain.batches import BatchState
from turnmill.domain.errors import BatchTimeout, SessionBusy, StoreUnavailable
from turnmill.domain.ids import BatchId
from turnmill.executor.task import AsyncExecutor, async_aside, async_knowing, async_pause
from turnmill.listening.watchlist import Deadline
from turnmill.prefetch import async_prefetched
from turnmill.store.nouns.batch_moves import Page
from turnmill.store.nouns.batches import BatchCounts, BatchRecord, BatchResult
from turnmill.verbs import batch_states, batches
from turnmill.verbs.batch_file import path_of
from turnmill.verbs.batch_results import ResultsFile
from turnmill.verbs.batches import OnCounts, Submission, shown
from turnmill.verbs.verb import Verb

_SHORTEST_POLL = 0.25
_LONGEST_POLL = 5.0


class AsyncBatches:
    """`client.batches`: create, get and list them."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    @async_knowing
    async def create(
        self,
        path: str | Path,
        *,
        mode: str = "auto",
        name: str | None = None,
        provider: str = "mock",
        model: str | None = None,
        observers: Sequence[str] = (),
        on_accepted: Callable[[int, int], None] | None = None,
    ) -> "AsyncBatch":
        """Accept every line of the file as a turn of the bulk lane.

        The whole file is checked first: InvalidBatchFile names the lines that are wrong, and
        nothing was accepted then. `provider` and `model` are for lines that name none. A batch is
        known by `name`, or else by the file's name and content: after a crash of the submitter,
        the same call goes on where it stopped, and no line is accepted twice. Conflict when the
        name stands for other content; MoveRefused when the batch was cancelled. `on_accepted` is
        told (lines accepted, lines in all) from time to time. `observers` are told of the batch and
        its turns, besides those that are told of all.
        """
        submission = Submission(
            path,
            mode=mode,
            name=name,
            provider=provider,
            model=model,
            observers=observers,
            max_text_bytes=self._executor.settings.max_text_bytes,
        )
        await self._inspect(submission)
        record = await self._executor.run(submission.create())
        if record.total is None:
            await self._accept(submission, record, on_accepted)
        return await self.get(record.id)

    async def get(self, batch: UUID | str) -> "AsyncBatch":
        """Return the batch of this id or name, or raise BatchNotFound."""
        return AsyncBatch(self._executor, await self._executor.run(batches.get(batch)))

    async def list(self, *, after: UUID | None = None, limit: int = 100) -> "list[AsyncBatch]":
        """Return up to `limit` batches, newest first; `after` is the last id of the page before."""
        found = await self._executor.run(batches.find(after=after, limit=limit))
        return [AsyncBatch(self._executor, record) for record in found]

    async def _inspect(self, submission: Submission) -> None:
        chunks = submission.inspected()
        while (lines := await async_aside(next, chunks, None)) is not None:
            await self._executor.run(submission.refuse_unknown(lines))

    async def _accept(
        self,
        submission: Submission,
        record: BatchRecord,
        on_accepted: Callable[[int, int], None] | None,
    ) -> None:
        seen = 0
        parsed = submission.parsed(record, small=self._executor.has_one_writer)
        async with aclosing(async_prefetched(parsed)) as chunks:
            async for count, lines in chunks:
                await self._executor.run(batches.accept_lines(record.id, lines))
                seen += count
                if on_accepted is not None:
                    on_accepted(seen, submission.total)
        await self._executor.run(submission.finish(record))


class AsyncBatch:
    """One batch. `counts` looks at the store each time."""

    def __init__(self, executor: AsyncExecutor, record: BatchRecord) -> None:
        self._executor = executor
        self.id: BatchId = record.id
        self.name: str = record.name
        self.record: BatchRecord = record  #: as it was when this handle was made

    def __repr__(self) -> str:
        return f"AsyncBatch(id={str(self.id)!r}, name={self.name!r})"

    @property
    async def counts(self) -> BatchCounts:
        """How many turns are in which state, now. On asyncio it is awaited."""
        return await self._executor.run(batches.counts(self.id))

    async def wait(
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
        counts = await self.counts
        with shown(progress) as show:
            show(counts)
            interval = _SHORTEST_POLL
            while not (counts.is_done or counts.state is BatchState.PAUSED):
                if deadline.passed:
                    open_turns = counts.accepted - counts.finished
                    raise BatchTimeout(f"{open_turns} turns of batch {self.id} are unfinished")
                await async_pause(min(interval, deadline.left))
                began = time.monotonic()
                with suppress(StoreUnavailable, SessionBusy):
                    counts = await self.counts
                # A look at a large batch costs something: most of the time nobody looks.
                took = time.monotonic() - began
                interval = min(max(10 * took, _SHORTEST_POLL), _LONGEST_POLL)
                show(counts)
        return counts

    async def iter_results(self) -> AsyncIterator[BatchResult]:
        """Yield what each line came to, in the order of the file; read in pages."""
        async for page in self._pages():
            for result in page:
                yield result

    async def results(self, path: str | Path) -> int:
        """Write one JSON object a line, in the order of the file; return how many.

        The file is there with all its lines, or as it was before; a new one is its owner's only.
        A link, a device and a FIFO are written through, never replaced. Turns that are not final
        yet have their state and no text.
        """
        file = await async_aside(ResultsFile, path_of(path))
        try:
            async for page in self._pages():
                await async_aside(file.write_results, page)
            await async_aside(file.finish)
        finally:
            file.close()
        return file.lines

    async def pause(self) -> None:
        """Let no further turn begin until `resume`; what runs comes to its end.

        MoveRefused where the batch has ended, or is not sealed yet.
        """
        await self._executor.run(batch_states.pause(self.id))
        await self._in_pages(batch_states.hold_page)

    async def resume(
        self,
        *,
        max_cost_usd: float | Decimal | str | None = None,
        deadline: datetime | timedelta | None = None,
    ) -> None:
        """Let a paused batch go on, whatever has stopped it, and with other limits where given.

        `deadline` is a moment, or as long from now. MoveRefused unless the batch is paused.
        """
        again = batch_states.resume(self.id, max_cost_usd=max_cost_usd, deadline=deadline)
        await self._executor.run(again)
        await self._in_pages(batch_states.hold_page)

    async def retry_failed(self) -> int:
        """Run failed and dead turns again, and return how many; those of archived sessions stay.

        MoveRefused where the batch was cancelled, or has expired.
        """
        await self._executor.run(batch_states.mark_running_again(self.id))
        return await self._in_pages(batches.retry_page)

    async def cancel(self) -> int:
        """Accept no further line and end what is not final; return how many turns that were.

        Running turns end when their worker has closed the call; see `AsyncTurn.cancel`.
        """
        await self._executor.run(batches.mark_cancelled(self.id))
        return await self._in_pages(batches.cancel_page)

    async def _pages(self) -> AsyncIterator[list[BatchResult]]:
        page = await self._executor.run(batches.results(self.id, after_line=0))
        while page:
            yield page
            page = await self._executor.run(batches.results(self.id, after_line=page[-1].line))

    async def _in_pages(self, move: Callable[[BatchId, int], Verb[Page | None]]) -> int:
        moved = 0
        page = await self._executor.run(move(self.id, 0))
        while page is not None:
            moved += page.moved
            page = await self._executor.run(move(self.id, page.last_line))
        return moved
