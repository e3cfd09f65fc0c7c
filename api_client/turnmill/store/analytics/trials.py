"""Trials: started in one transaction, found, cut short, and what they show."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, insert, select, update

from turnmill.domain.analytics.judging import TrialState
from turnmill.domain.errors import Conflict, InvalidInput, TrialNotFound
from turnmill.domain.ids import BatchId
from turnmill.new_ids import new_id
from turnmill.store.analytics.trial_results import results
from turnmill.store.analytics.trial_summaries import MODELS_BEFORE, Adding, document_of, summary_in
from turnmill.store.batch_records import StagedLine
from turnmill.store.nouns import batch_moves, batch_staging, batches
from turnmill.store.nouns.asked_again import AGAIN
from turnmill.store.nouns.batch_staging import HowToRun
from turnmill.store.readable import read_one, read_page, readable
from turnmill.store.rules.sealing import settings_of_house
from turnmill.store.schema.batch_tables import batch_tallies
from turnmill.store.schema.tables import sessions
from turnmill.store.schema.trial_tables import trial_lines, trials
from turnmill.store.trial_records import (
    Drawn,
    Finding,
    NewTrial,
    Sample,
    TrialRecord,
    TrialSummary,
)
from turnmill.store.types import db_now
from turnmill.store.vaults import plain, plain_or_none

_PAGE = 200
_SAME = ("provider", "model", "judge", "template", "max_cost_usd")


def find_same(conn: Connection, new: NewTrial) -> TrialRecord | None:
    """Return the trial that has the name already; Conflict where it is another one."""
    row = conn.execute(select(trials).where(trials.c.name == new.name)).one_or_none()
    if row is None:
        return None
    found = read_one(row, record_of)
    same = all(getattr(found, name) == getattr(new, name) for name in _SAME)
    # One of fewer turns than were asked for is the same: there were no more.
    if not same or new.sample < found.sampled or dict(found.settings) != dict(new.settings):
        raise Conflict("another trial has this name", hint="give the trial another name")
    return found


def start(conn: Connection, new: NewTrial, sample: Sample) -> TrialRecord:
    """Write the trial with its batch, whose lines say which turns are asked again, and let it run.

    The caller's transaction: either all of it stands, or nothing. Raises InvalidInput where there
    is no turn to ask, or where nobody offers the mode; Conflict for a name that is taken.
    """
    if not sample.turns:
        raise InvalidInput(
            "no turn of that time can be asked again",
            hint="since= further back, or another template; dry_run=True tells what is left out",
        )
    batch = batches.create(
        conn,
        new.batch_id,
        name=f"trial:{new.name}",
        hashes=[new.id.bytes],
        metadata={"trial": new.name},
        settings=dict(new.settings),
        defaults={"provider": new.provider, "model": new.model},
    )
    conn.execute(insert(trials).values(_row(conn, new, sample)))
    for first in range(0, len(sample.turns), _PAGE):
        some = sample.turns[first : first + _PAGE]
        _stage(conn, batch.id, new.id, some, first=first + 1)
    if new.max_cost_usd is not None:
        _bound(conn, batch.id, new.max_cost_usd - (new.judge_usd or 0))
    run = HowToRun(mode=new.mode, on_leftover="live", providers=frozenset({new.provider}))
    batch_staging.seal(conn, batch.id, hashes=[new.id.bytes], name=batch.name, run=run)
    return get(conn, new.id)


def _row(conn: Connection, new: NewTrial, sample: Sample) -> dict[str, Any]:
    same = ("id", "name", "batch_id", "provider", "model", "judge", "since", "template")
    return {
        **{name: getattr(new, name) for name in same},
        "settings": settings_of_house(conn, trials.c.settings, new.id.hex, new.settings),
        "sampled": len(sample.turns),
        "left_out": dict(sample.left_out),
        "max_cost_usd": new.max_cost_usd,
        "judge_usd": new.judge_usd,
    }


def _stage(
    conn: Connection, batch_id: BatchId, trial_id: UUID, some: Sequence[Drawn], *, first: int
) -> None:
    numbered = list(enumerate(some, first))
    lines = [
        StagedLine(
            number=number,
            content={AGAIN: str(one.turn_id)},
            custom_id=str(one.turn_id),
            user_id=one.user_id,
            weight=one.input_tokens or 0,
        )
        for number, one in numbered
    ]
    batch_staging.stage(conn, batch_id, lines, last=numbered[-1][0])
    copies = [
        {
            "trial_id": trial_id,
            "line": number,
            "turn_id": one.turn_id,
            "session_id": one.session_id,
            "user_id": one.user_id,
        }
        for number, one in numbered
    ]
    conn.execute(insert(trial_lines), copies)


def _bound(conn: Connection, batch_id: BatchId, most: Decimal) -> None:
    batch_moves.bound(conn, batch_id, max_cost_usd=most, deadline=None, budget_id=new_id())


def get(conn: Connection, trial: UUID | str) -> TrialRecord:
    """Return the trial of this id or name, or raise TrialNotFound."""
    column = trials.c.name if isinstance(trial, str) else trials.c.id
    row = conn.execute(select(trials).where(column == trial)).one_or_none()
    if row is None:
        raise TrialNotFound()
    return read_one(row, record_of)


def find(conn: Connection, *, after: UUID | None = None, limit: int = 100) -> list[TrialRecord]:
    """Return up to `limit` trials, newest first; `after` is the last id of the page before."""
    query = select(trials)
    if after is not None:
        query = query.where(trials.c.id < after)
    return read_page(conn, query, record_of, by=trials.c.id, limit=limit)


def mark_cancelled(conn: Connection, trial_id: UUID) -> TrialRecord:
    """Ask nobody any more, nor the judge; what there is by then stays. Raises TrialNotFound."""
    record = locked(conn, trial_id)
    if record.is_over:
        return record
    for batch_id in (record.batch_id, record.judge_batch_id):
        if batch_id is not None:
            batch_moves.mark_cancelled(conn, batch_id)
    return end(conn, record, TrialState.CANCELLED)


def locked(conn: Connection, trial_id: UUID) -> TrialRecord:
    """Lock the trial, and return it as it is; raises TrialNotFound."""
    mine = select(trials).where(trials.c.id == trial_id).with_for_update(key_share=True)
    row = conn.execute(mine).one_or_none()
    if row is None:
        raise TrialNotFound()
    return read_one(row, record_of)


def end(conn: Connection, record: TrialRecord, state: TrialState) -> TrialRecord:
    """Write down what the trial has come to: figures, and nothing that anybody has said."""
    outcome = document_of(summary(conn, replace(record, outcome=None)))
    outcome[MODELS_BEFORE] = models_before(conn, [record.id])[record.id]
    values = {"state": state.value, "ended_at": db_now(), "outcome": outcome}
    conn.execute(update(trials).where(trials.c.id == record.id).values(values))
    return get(conn, record.id)


def summary(conn: Connection, record: TrialRecord) -> TrialSummary:
    """Return what the trial shows: as it was when it ended, or as it is so far."""
    if record.outcome is not None:
        return summary_in(record.outcome)
    adding = Adding()
    page = results(conn, record, limit=_PAGE)
    while page:
        for one in page:
            adding.add(one)
        page = results(conn, record, after=page[-1].line, limit=_PAGE)
    return adding.summary(
        spent_usd=_spent(conn, record.batch_id), judge_usd=_spent(conn, record.judge_batch_id)
    )


def _spent(conn: Connection, batch_id: BatchId | None) -> Decimal:
    known = func.coalesce(func.sum(batch_tallies.c.cost_usd), 0)
    return Decimal(conn.scalars(select(known).where(batch_tallies.c.batch_id == batch_id)).one())


def models_before(conn: Connection, trial_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """Return which models the turns of each trial had asked, as far as its lines are there."""
    asked = (
        select(trial_lines.c.trial_id, sessions.c.provider, sessions.c.model)
        .join(sessions, sessions.c.id == trial_lines.c.session_id)
        .where(trial_lines.c.trial_id.in_(trial_ids))
        .distinct()
    )
    found: dict[UUID, list[str]] = {one: [] for one in trial_ids}
    for row in conn.execute(asked) if trial_ids else ():
        found[row.trial_id].append(f"{row.provider}/{row.model}")
    return {one: sorted(models) for one, models in found.items()}


def findings(conn: Connection, *, since: datetime | None = None) -> list[Finding]:
    """Return what the trials show that have ended by themselves since then, newest first."""
    query = select(trials).where(trials.c.state == TrialState.DONE)
    if since is not None:
        query = query.where(trials.c.ended_at >= since)
    ended = query.where(trials.c.ended_at.is_not(None)).order_by(trials.c.ended_at.desc())
    found = readable(conn.execute(ended.limit(1000)), _finding)
    return [one for one in found if one is not None]


def _finding(row: Row[Any]) -> Finding | None:
    outcome = plain(row.outcome)
    if outcome is None:
        return None
    return Finding(
        trial_id=row.id,
        name=row.name,
        provider=row.provider,
        model=row.model,
        settings=plain_or_none(row.settings),
        template=row.template,
        judge=row.judge,
        since=row.since,
        ended_at=row.ended_at,
        summary=summary_in(outcome),
        models_before=outcome.get(MODELS_BEFORE),
    )


def record_of(row: Row[Any]) -> TrialRecord:
    """Return the record of a row of all columns."""
    said = {name: getattr(row, name) for name in TrialRecord.__dataclass_fields__}
    judging = None if row.judge_batch_id is None else BatchId(row.judge_batch_id)
    said |= {"state": TrialState(row.state), "judge_batch_id": judging}
    said |= {"settings": plain(row.settings)}
    return TrialRecord(**said | {"batch_id": BatchId(row.batch_id)})
