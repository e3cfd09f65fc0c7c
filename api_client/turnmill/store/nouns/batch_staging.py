"""Lines of a batch before it runs: written as they are read, sealed when all stand, or removed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Uuid, cast, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from turnmill.crypto.wanted import HOUSE, Owner
from turnmill.domain.batch_modes import FLEX_SETTINGS, chosen_mode
from turnmill.domain.batches import BatchMode, BatchState
from turnmill.domain.errors import MoveRefused
from turnmill.domain.ids import BatchId
from turnmill.store.batch_records import BatchRecord, StagedLine
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.engine import engine_of
from turnmill.store.nouns import batch_reserving
from turnmill.store.nouns import batches as rows
from turnmill.store.rules.sealing import (
    is_encrypted,
    plain_metadata,
    require_keys_of,
    sealed_for,
    settings_of,
)
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches, sessions, turns
from turnmill.store.types import db_asof_after, db_now


def stage(conn: Connection, batch_id: BatchId, lines: Sequence[StagedLine], *, last: int) -> None:
    """Write those lines that do not stand yet; `last` is the last that was read with them.

    Whoever submits holds the batch's row, so that of two submitters each finds what the other has
    done. Raises MoveRefused when the batch was cancelled.
    """
    batch = rows.locked(conn, batch_id)
    if batch.cancelled_at is not None:
        raise MoveRefused("the batch was cancelled", hint="submit the file under another name")
    if batch.sealed_at is not None or last <= batch.last_line:
        return
    fresh = [line for line in lines if line.number > batch.last_line]
    if fresh:
        fresh = [_with_plain(conn, one) for one in fresh]
        engine_of(conn).stage_lines(conn, batch_id, _sealed(conn, batch_id, fresh))
    conn.execute(update(batches).where(batches.c.id == batch_id).values(last_line=last))


def _with_plain(conn: Connection, line: StagedLine) -> StagedLine:
    """Return it with what of its metadata stands beside what is sealed: budgets go by it."""
    if not (metadata := line.content.get("metadata")):
        return line  # most have none
    return line._replace(metadata=plain_metadata(conn, metadata) or None)


def _sealed(
    conn: Connection, batch_id: BatchId, lines: Sequence[StagedLine]
) -> Sequence[StagedLine]:
    """Return lines as they stand, each sealed for its user where content is; raises KeyWanted."""
    if not is_encrypted(conn):
        return lines
    owners = [Owner(one.user_id or HOUSE) for one in lines]
    require_keys_of(conn, owners)
    return [
        one._replace(content=sealed_for(conn, owner, batch_lines.c.content, place, one.content))
        for one, owner in zip(lines, owners, strict=True)
        for place in [f"{batch_id.hex}/{one.number}"]
    ]


def refuse_other(conn: Connection, batch_id: BatchId, hashes: Sequence[bytes]) -> None:
    """Raise Conflict where the batch is of other content."""
    rows.refuse_other(conn.execute(select(batches).where(batches.c.id == batch_id)).one(), hashes)


@dataclass(frozen=True, slots=True, kw_only=True)
class HowToRun:
    """How somebody wants a batch to be run."""

    mode: str  #: or `auto`
    on_leftover: str  #: of what a vendor's batch has left: live, or next
    providers: frozenset[str] = frozenset()  #: of lines with sessions of their own


def seal(
    conn: Connection, batch_id: BatchId, *, hashes: Sequence[bytes], name: str, run: HowToRun
) -> BatchId:
    """Let the batch run: every line of it stands. Return which batch has the name and the content.

    That is another one where it stood already: this one does not run then. Raises Conflict when one
    of other content has the name, BudgetExceeded, InvalidInput for a mode that its providers do not
    have, and MoveRefused for one that was cancelled.
    """
    batch = rows.locked(conn, batch_id)
    if batch.sealed_at is not None:
        return batch_id
    if batch.cancelled_at is not None:
        raise MoveRefused("the batch was cancelled", hint="submit the file under another name")
    named = select(batches).where(batches.c.name == name, batches.c.id != batch_id)
    taken = conn.execute(named).one_or_none()
    if taken is None and not _named(conn, batch_id, name):
        taken = conn.execute(named).one_or_none()
    if taken is not None:
        rows.refuse_other(taken, hashes)
        return BatchId(taken.id)
    batch_reserving.reserve(conn, batch_id)
    total = select(func.count()).where(batch_lines.c.batch_id == batch_id).scalar_subquery()
    conn.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(
            state=BatchState.RUNNING.value,
            sealed_at=db_now(),
            total=total,
            name=name,
            content_hash=hashes[0],
            **_how(conn, batch, run),
        )
    )
    return batch_id


def _named(conn: Connection, batch_id: BatchId, name: str) -> bool:
    """Give the batch its name, or return False where another one has it, or is being given it.

    Of two that are sealed at once, the second waits here until the first stands, or does not.
    """
    try:
        with conn.begin_nested():
            conn.execute(update(batches).where(batches.c.id == batch_id).values(name=name))
    except IntegrityError:
        return False
    return True


def _how(conn: Connection, batch: BatchRecord, run: HowToRun) -> dict[str, Any]:
    """Return how the batch is run from now on, and why."""
    mine = batch_lines.c.batch_id == batch.id
    is_shared = Capability.SHARED in capabilities_of(conn)
    theirs: list[str] = []
    if is_shared:
        named = select(cast(batch_lines.c.session, Uuid))
        which = sessions.c.id.in_(named.where(mine, batch_lines.c.session.is_not(None)))
        theirs = list(conn.scalars(select(sessions.c.provider).where(which).distinct()))
    lines = conn.scalars(select(func.count()).where(mine)).one()
    now = conn.scalars(select(db_now())).one()
    chosen = chosen_mode(
        run.mode,
        providers=run.providers | frozenset(theirs),
        lines=lines,
        deadline_in=None if batch.deadline is None else batch.deadline - now,
        is_shared=is_shared,
    )
    is_flex = chosen.mode is BatchMode.FLEX
    settings = {**FLEX_SETTINGS, **batch.settings} if is_flex else batch.settings
    return {
        "mode": chosen.mode,
        "mode_because": chosen.because,
        "on_leftover": run.on_leftover,
        "settings": _settings_of(conn, batch.id, settings),
    }


def _settings_of(
    conn: Connection, batch_id: BatchId, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return settings as they are to stand: all lines are one user's, or they are the house's."""
    whose = rows.one_user_of(conn, batch_id) if settings else None
    return settings_of(conn, whose, batches.c.settings, batch_id.hex, settings)


def twice(conn: Connection, batch_id: BatchId, *, limit: int) -> list[int]:
    """Return the numbers of lines whose custom_id stands in a line before them."""
    mine = batch_lines.c.batch_id == batch_id, batch_lines.c.custom_id.is_not(None)
    place = func.row_number().over(
        partition_by=batch_lines.c.custom_id, order_by=batch_lines.c.line
    )
    ranked = select(batch_lines.c.line, place.label("place")).where(*mine).subquery()
    found = select(ranked.c.line).where(ranked.c.place > 1).order_by(ranked.c.line).limit(limit)
    return list(conn.scalars(found))


def discard(conn: Connection, batch_id: BatchId, *, limit: int = 10_000) -> int:
    """Remove a batch that never ran, `limit` lines at a time; return how many; 0: it is gone.

    One that is sealed, or of which there are turns, stays.
    """
    row = conn.execute(
        select(batches.c.id)
        .where(batches.c.id == batch_id, batches.c.sealed_at.is_(None), batches.c.total.is_(None))
        .with_for_update()
    ).one_or_none()
    ran = select(turns.c.id).where(turns.c.batch_id == batch_id).limit(1)
    if row is None or conn.execute(ran).first() is not None:
        return 0
    some = select(batch_lines.c.line).where(batch_lines.c.batch_id == batch_id).limit(limit)
    gone = delete(batch_lines).where(
        batch_lines.c.batch_id == batch_id, batch_lines.c.line.in_(some)
    )
    # Whoever submits at this moment begins anew: of the lines that stand, some are gone.
    if removed := conn.execute(gone).rowcount:
        conn.execute(update(batches).where(batches.c.id == batch_id).values(cancelled_at=db_now()))
        return removed
    conn.execute(delete(batches).where(batches.c.id == batch_id))
    return 0


def forget_unfinished(conn: Connection, *, older_than: timedelta, limit: int = 20_000) -> int:
    """Remove lines, and batches, whose submitter was gone for so long; return how many of both."""
    old = batches.c.created_at < db_asof_after(-older_than.total_seconds())
    unsealed = batches.c.sealed_at.is_(None), batches.c.total.is_(None)
    ran = select(turns.c.id).where(turns.c.batch_id == batches.c.id).exists()
    found = conn.scalar(select(batches.c.id).where(old, *unsealed, ~ran).limit(1))
    if found is None:
        return 0
    return discard(conn, BatchId(found), limit=limit) or 1


def was_begun_before(conn: Connection, batch_id: BatchId) -> bool:
    """Tell whether turns of it were made as lines were read, by a version of before."""
    lines = select(batch_lines.c.line).where(batch_lines.c.batch_id == batch_id).limit(1)
    ran = select(turns.c.id).where(turns.c.batch_id == batch_id).limit(1)
    return conn.execute(lines).first() is None and conn.execute(ran).first() is not None
