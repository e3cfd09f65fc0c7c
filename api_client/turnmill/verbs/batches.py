"""Batches: `client.batches`, jobs of many turns from a file and back into one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from turnmill.domain.ids import BatchId
from turnmill.new_ids import new_id
from turnmill.store.batch_records import BatchCounts, BatchRecord, BatchResult
from turnmill.store.nouns import batch_moves, batch_results
from turnmill.store.nouns import batches as rows
from turnmill.verbs import intake
from turnmill.verbs.refs import batch_named
from turnmill.verbs.verb import Connection, Deed, Effect, Shown, Verb, single, transaction

OnCounts = Callable[[BatchCounts], None]


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
    return single(
        lambda conn: Effect(batch_results.results(conn, batch_id, after_line=after_line)),
        shows=Shown(
            "results",
            "session",
            lambda found: {one.session_id for one in found if one.parts is not None},
        ),
    )


def mark_cancelled(batch_id: BatchId) -> Verb[bool]:
    """Accept no further line; False where it has ended before."""

    def on(conn: Connection) -> Effect[bool]:
        done = batch_moves.mark_cancelled(conn, batch_id)
        return Effect(done, changed=done)

    return transaction(on, does=Deed("batch.cancelled", objects={"batch": batch_id}))


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
