"""Batches: `client.batches`, jobs of many turns from a file and back into one."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from turnmill.domain.arguments import wait_seconds
from turnmill.domain.checks import check_name
from turnmill.domain.errors import (
    BatchTimeout,
    Conflict,
    InvalidInput,
    SessionBusy,
    StoreUnavailable,
)
from turnmill.domain.ids import BatchId, as_uuid
from turnmill.domain.states import Lane
from turnmill.listening.watchlist import Deadline
from turnmill.new_ids import new_id
from turnmill.prefetch import prefetched
from turnmill.store.capabilities import Capability
from turnmill.store.codec import exported
from turnmill.store.database import Database
from turnmill.store.nouns import batch_moves
from turnmill.store.nouns import batches as rows
from turnmill.store.nouns.batches import BatchCounts, BatchRecord, Line, Result
from turnmill.store.records import Accepted, Head, NewSession
from turnmill.verbs import intake
from turnmill.verbs.batch_file import (
    CHUNK,
    CHUNK_OF_SQLITE,
    BatchFile,
    Defaults,
    Digest,
    Inspection,
    path_of,
)

Publish = Callable[[Sequence[Head]], object]
OnCounts = Callable[[BatchCounts], None]

_MODES = ("auto", "live")
_SHORTEST_POLL = 0.25
_LONGEST_POLL = 5.0


class Batches:
    """`client.batches`: create, get and list them."""

    def __init__(
        self, database: Database, publish: Publish, *, max_text_bytes: int = 1_000_000
    ) -> None:
        self._database = database
        self._publish = publish
        self._max_text_bytes = max_text_bytes

    def create(
        self,
        path: str | Path,
        *,
        mode: str = "auto",
        name: str | None = None,
        provider: str = "mock",
        model: str | None = None,
        on_accepted: Callable[[int, int], None] | None = None,
    ) -> "Batch":
        """Accept every line of the file as a turn of the bulk lane.

        The whole file is checked first: InvalidBatchFile names the lines that are wrong, and
        nothing was accepted then. `provider` and `model` are for lines that name none. A batch is
        known by `name`, or else by the file's name and content: after a crash of the submitter,
        the same call goes on where it stopped, and no line is accepted twice. Conflict when the
        name stands for other content; MoveRefused when the batch was cancelled. `on_accepted` is
        told (lines accepted, lines in all) from time to time.
        """
        if mode not in _MODES:
            raise InvalidInput(f"mode must be one of {', '.join(_MODES)}", hint="mode='auto'")
        defaults = Defaults(
            provider=check_name(provider, name="provider"),
            model=intake.name_or_none(model, name="model"),
        )
        wanted = intake.name_or_none(name, name="name")
        file = BatchFile(path_of(path), defaults=defaults, max_text_bytes=self._max_text_bytes)
        content, total = self._inspect(file)
        identity = _identity(content, defaults)
        with self._database.begin() as conn:
            record = rows.create(
                conn,
                BatchId(new_id()),
                name=wanted or f"{file.label}-{identity.hex()[:12]}",
                content_hash=identity,
                metadata={"mode": mode, "file": file.label},
            )
        if record.total is None:
            submission = _Submission(self._database, self._publish, file, record)
            submission.run(total, content=content, on_accepted=on_accepted)
        return self.get(record.id)

    def get(self, batch: UUID | str) -> "Batch":
        """Return the batch of this id or name, or raise BatchNotFound."""
        found = intake.bare(batch)
        name = check_name(found, name="batch") if isinstance(found, str) else ""
        as_id = as_uuid(name) if name else intake.identifier(found, name="batch")
        with self._database.single() as conn:
            record = rows.get(conn, name if as_id is None else BatchId(as_id))
        return Batch(self._database, self._publish, record)

    def list(self, *, after: UUID | None = None, limit: int = 100) -> "list[Batch]":
        """Return up to `limit` batches, newest first; `after` is the last id of the page before."""
        page = intake.listing(after=after, limit=limit)
        with self._database.single() as conn:
            found = rows.find(conn, **page)
        return [Batch(self._database, self._publish, record) for record in found]

    def _inspect(self, file: BatchFile) -> tuple[bytes, int]:
        """Return the hash and the number of lines of a file without faults."""
        inspection = Inspection(file)
        for lines in inspection.chunks():
            named = [line for line in lines if not isinstance(line.session, NewSession)]
            with self._database.single() as conn:
                known = rows.open_sessions(conn, {rows.session_ref(line) for line in named})
            for line in named:
                if line.session not in known:
                    inspection.refuse(line.number, "no session of this id or key takes messages")
        return inspection.finish(), inspection.total


class Batch:
    """One batch. `counts` looks at the store each time."""

    def __init__(self, database: Database, publish: Publish, record: BatchRecord) -> None:
        self._database = database
        self._publish = publish
        self.id = record.id
        self.name = record.name
        self.record = record  #: as last seen

    def __repr__(self) -> str:
        return f"Batch(id={str(self.id)!r}, name={self.name!r})"

    @property
    def counts(self) -> BatchCounts:
        """How many turns are in which state, now."""
        with self._database.single() as conn:
            return rows.counts(conn, self.id)

    def wait(
        self,
        *,
        progress: bool | OnCounts = False,
        timeout: float | timedelta | None = None,
    ) -> BatchCounts:
        """Wait until every turn is final, at most `timeout` (seconds or timedelta).

        `progress=True` draws a bar on stderr; a function is given the counts. Raises BatchTimeout,
        which leaves the batch running. A database that goes away meanwhile is waited for
        too. A batch whose submitter was killed half-way is never done: create it again from the
        same file, or cancel it.
        """
        deadline = Deadline(wait_seconds(timeout))
        counts = self.counts
        with _shown(progress) as show:
            show(counts)
            pause = _SHORTEST_POLL
            while not counts.is_done:
                if deadline.passed:
                    open_turns = counts.accepted - counts.finished
                    raise BatchTimeout(f"{open_turns} turns of batch {self.id} are unfinished")
                time.sleep(min(pause, deadline.left))
                began = time.monotonic()
                with suppress(StoreUnavailable, SessionBusy):
                    counts = self.counts
                # A look at a large batch costs something: most of the time nobody looks.
                pause = min(max(10 * (time.monotonic() - began), _SHORTEST_POLL), _LONGEST_POLL)
                show(counts)
        return counts

    def iter_results(self) -> Iterator[Result]:
        """Yield what each line came to, in the order of the file; read in pages."""
        after_line = 0
        while True:
            with self._database.single() as conn:
                page = rows.results(conn, self.id, after_line=after_line)
            if not page:
                return
            yield from page
            after_line = page[-1].line

    def results(self, path: str | Path) -> int:
        """Write one JSON object a line, in the order of the file; return how many.

        The file is there with all its lines, or not at all. Turns that are not final yet have
        their state and no text.
        """
        return write_lines(path_of(path), (as_line(result) for result in self.iter_results()))

    def retry_failed(self) -> int:
        """Run failed and dead turns again, and return how many; those of archived sessions stay."""
        return self._in_pages(batch_moves.retry_page, new_id=new_id)

    def cancel(self) -> int:
        """Accept no further line and end what is not final; return how many turns that were.

        Running turns end when their worker has closed the call; see `Turn.cancel`.
        """
        with self._database.begin() as conn:
            batch_moves.mark_cancelled(conn, self.id)
        return self._in_pages(batch_moves.cancel_page)

    def _in_pages(self, move: Callable[..., batch_moves.Page | None], **options: Any) -> int:
        moved, after_line = 0, 0
        while True:
            with self._database.begin() as conn:
                page = move(conn, self.id, after_line=after_line, **options)
            if page is None:
                return moved
            self._publish(page.heads)
            moved += page.moved
            after_line = page.last_line


class _Submission:
    """The second reading of a file: every line that does not stand yet is accepted."""

    def __init__(
        self, database: Database, publish: Publish, file: BatchFile, batch: BatchRecord
    ) -> None:
        self._database = database
        self._publish = publish
        self._file = file
        self._batch = batch
        self._digest = Digest()

    def run(
        self, total: int, *, content: bytes, on_accepted: Callable[[int, int], None] | None
    ) -> None:
        """Accept what is left; Conflict when the file is not the one that was inspected."""
        seen = 0
        for count, lines in prefetched(self._parsed()):
            self._accept(lines)
            seen += count
            if on_accepted is not None:
                on_accepted(seen, total)
        if self._digest.value() != content:
            raise Conflict(
                "the file was changed while it was submitted",
                hint="cancel the batch, and submit the file under another name",
            )
        with self._database.begin() as conn:
            rows.finish(conn, self._batch.id, total=total)

    def _accept(self, lines: Sequence[Line]) -> None:
        if not lines:
            return
        with self._database.begin() as conn:
            accepted = rows.accept_lines(conn, self._batch.id, lines)
        self._publish([_head(one) for one in accepted if one.announce])

    def _parsed(self) -> Iterator[tuple[int, list[Line]]]:
        size = CHUNK if self._database.can(Capability.ROW_LOCKS) else CHUNK_OF_SQLITE
        for chunk in self._file.chunks(size):
            for numbered in chunk:
                self._digest.add(numbered)
            yield (
                len(chunk),
                [
                    self._file.parse(numbered, batch_id=self._batch.id)
                    for numbered in chunk
                    if numbered.number > self._batch.last_line
                ],
            )


def as_line(result: Result) -> dict[str, Any]:
    """Return a result as it is written into files and printed."""
    return {
        "custom_id": result.custom_id,
        "turn_id": str(result.turn_id),
        "session_id": str(result.session_id),
        "state": result.state.value,
        **({"text": None} if result.parts is None else exported(result.parts)),
        "usage": {
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "cached_tokens": result.cached_tokens,
            "cost_usd": None if result.cost_usd is None else format(result.cost_usd, "f"),
        },
        "error": None if result.error_code is None else {"code": result.error_code},
    }


def write_lines(path: Path, lines: Iterator[Mapping[str, Any]]) -> int:
    """Write JSON lines so that `path` is complete, or as it was before."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    try:
        with part.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


@contextmanager
def _shown(progress: bool | OnCounts) -> Iterator[OnCounts]:
    if callable(progress):
        yield progress
    elif progress:
        from turnmill.verbs.batch_progress import drawn  # noqa: PLC0415

        with drawn() as draw:
            yield draw
    else:
        yield lambda _: None


def _identity(content: bytes, defaults: Defaults) -> bytes:
    said = f"{defaults.provider}\n{defaults.model or ''}\n"
    return hashlib.sha256(said.encode() + content).digest()


def _head(accepted: Accepted) -> Head:
    return Head(turn_id=accepted.turn_id, session_id=accepted.session_id, lane=Lane.BULK)
