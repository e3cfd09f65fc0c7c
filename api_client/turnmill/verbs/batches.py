"""Batches: `client.batches`, jobs of many turns from a file and back into one."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from turnmill.domain.checks import check_name
from turnmill.domain.errors import Conflict, InvalidInput
from turnmill.domain.ids import BatchId, SessionId
from turnmill.domain.session_settings import observers_given
from turnmill.domain.states import Lane
from turnmill.new_ids import new_id
from turnmill.store.nouns import batch_moves
from turnmill.store.nouns import batches as rows
from turnmill.store.nouns.batches import BatchCounts, BatchRecord, BatchResult, Line
from turnmill.store.records import NewSession
from turnmill.store.rules.happenings import observe
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
from turnmill.verbs.refs import batch_named
from turnmill.verbs.sending import heads_of
from turnmill.verbs.verb import Connection, Effect, Verb, single, transaction

OnCounts = Callable[[BatchCounts], None]

_MODES = ("auto", "live")


class Submission:
    """A file that is to become a batch: read once to be checked, and again to be accepted."""

    def __init__(
        self,
        path: str | Path,
        *,
        mode: str,
        name: str | None,
        provider: str,
        model: str | None,
        observers: object,
        max_text_bytes: int,
    ) -> None:
        """Raise InvalidInput; the file is not opened yet."""
        self._observers = observers_given(observers) or []
        if mode not in _MODES:
            raise InvalidInput(f"mode must be one of {', '.join(_MODES)}", hint="mode='auto'")
        self._mode = mode
        self._defaults = Defaults(
            provider=check_name(provider, name="provider"),
            model=intake.name_or_none(model, name="model"),
        )
        self._name = intake.name_or_none(name, name="name")
        self._file = BatchFile(
            path_of(path), defaults=self._defaults, max_text_bytes=max_text_bytes
        )
        self._inspection = Inspection(self._file)
        self._digest = Digest()

    def inspected(self) -> Iterator[list[Line]]:
        """Yield the lines that are acceptable so far; each is to be checked by `refuse_unknown`."""
        return self._inspection.chunks()

    def refuse_unknown(self, lines: Sequence[Line]) -> Verb[None]:
        """Note those lines whose session takes no messages."""
        named = [line for line in lines if not isinstance(line.session, NewSession)]

        def on(conn: Connection) -> Effect[None]:
            known = rows.open_sessions(conn, {rows.session_ref(line) for line in named})
            for line in named:
                if line.session not in known:
                    what = "no session of this id or key takes messages"
                    self._inspection.refuse(line.number, what)
            return Effect(None)

        return single(on)

    def create(self) -> Verb[BatchRecord]:
        """Create the batch, or find it; raises InvalidBatchFile when a line was refused."""
        content, file = self._inspection.finish(), self._file
        said = f"{self._defaults.provider}\n{self._defaults.model or ''}\n"
        identity = hashlib.sha256(said.encode() + content).digest()

        def on(conn: Connection) -> Effect[BatchRecord]:
            record = rows.create(
                conn,
                BatchId(new_id()),
                name=self._name or f"{file.label}-{identity.hex()[:12]}",
                content_hash=identity,
                metadata={"mode": self._mode, "file": file.label},
            )
            if self._observers:
                observe(conn, {SessionId(record.id): self._observers})
            return Effect(record)

        return transaction(on)

    @property
    def total(self) -> int:
        """How many lines the file has."""
        return self._inspection.total

    def parsed(self, batch: BatchRecord, *, small: bool) -> Iterator[tuple[int, list[Line]]]:
        """Yield how many lines were read, and those of them that do not stand yet."""
        for chunk in self._file.chunks(CHUNK_OF_SQLITE if small else CHUNK):
            for numbered in chunk:
                self._digest.add(numbered)
            fresh = [
                self._file.parse(numbered, batch_id=batch.id)
                for numbered in chunk
                if numbered.number > batch.last_line
            ]
            yield len(chunk), fresh

    def finish(self, batch: BatchRecord) -> Verb[None]:
        """Note that all is accepted; Conflict when the file is not the one that was inspected."""
        if self._digest.value() != self._inspection.finish():
            raise Conflict(
                "the file was changed while it was submitted",
                hint="cancel the batch, and submit the file under another name",
            )

        def on(conn: Connection) -> Effect[None]:
            rows.finish(conn, batch.id, total=self.total)
            return Effect(None)

        return transaction(on)


def accept_lines(batch_id: BatchId, lines: Sequence[Line]) -> Verb[None]:
    """Accept those lines that do not stand yet."""

    def on(conn: Connection) -> Effect[None]:
        accepted = rows.accept_lines(conn, batch_id, lines) if lines else []
        return Effect(None, heads_of(accepted, Lane.BULK))

    return transaction(on)


def get(batch: object) -> Verb[BatchRecord]:
    """Read the batch of this id or name."""
    wanted = batch_named(batch)
    return single(lambda conn: Effect(rows.get(conn, wanted)))


def find(*, after: object, limit: int) -> Verb[list[BatchRecord]]:
    """Read a page of batches, newest first."""
    page = intake.listing(after=after, limit=limit)
    return single(lambda conn: Effect(rows.find(conn, **page)))


def counts(batch_id: BatchId) -> Verb[BatchCounts]:
    """Read how far the batch is."""
    return single(lambda conn: Effect(rows.counts(conn, batch_id)))


def results(batch_id: BatchId, *, after_line: int) -> Verb[list[BatchResult]]:
    """Read what a page of lines came to."""
    return single(lambda conn: Effect(rows.results(conn, batch_id, after_line=after_line)))


def mark_cancelled(batch_id: BatchId) -> Verb[None]:
    """Accept no further line."""

    def on(conn: Connection) -> Effect[None]:
        batch_moves.mark_cancelled(conn, batch_id)
        return Effect(None)

    return transaction(on)


def cancel_page(batch_id: BatchId, _after_line: int) -> Verb[batch_moves.Page | None]:
    """End a page of turns; None: nothing is left."""
    return _moving(lambda conn: batch_moves.cancel_page(conn, batch_id))


def retry_page(batch_id: BatchId, after_line: int) -> Verb[batch_moves.Page | None]:
    """Run a page of failed turns again; None: nothing is left."""
    return _moving(
        lambda conn: batch_moves.retry_page(conn, batch_id, new_id=new_id, after_line=after_line)
    )


@contextmanager
def shown(progress: bool | OnCounts) -> Iterator[OnCounts]:
    """Yield what is to be told the counts: the caller's function, a bar on stderr, or nobody."""
    if callable(progress):
        yield progress
    elif progress:
        from turnmill.verbs.batch_progress import drawn  # noqa: PLC0415

        with drawn() as draw:
            yield draw
    else:
        yield lambda _: None


def _moving(
    move: Callable[[Connection], batch_moves.Page | None],
) -> Verb[batch_moves.Page | None]:
    def on(conn: Connection) -> Effect[batch_moves.Page | None]:
        page = move(conn)
        return Effect(page, () if page is None else page.heads)

    return transaction(on)
