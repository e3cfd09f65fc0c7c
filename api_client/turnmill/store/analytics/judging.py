"""How a trial goes on from one step to the next, and the receipts of who compares its replies.

Rows alone tell how far a trial is. Each step is one transaction, and finds what those before it
have left: whoever is killed between two of them is followed by the next one. What may cost money is
written down before it is done, and is not begun twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, update

from turnmill.domain.analytics.judging import (
    Judge,
    JudgeKind,
    JudgeVerdict,
    TrialState,
    agree_exactly,
    judge_given,
)
from turnmill.domain.batches import OVER, BatchState
from turnmill.domain.ids import BatchId
from turnmill.store.analytics import model_judging
from turnmill.store.analytics.trials import end, record_of
from turnmill.store.analytics.verdicts import open_lines, pairs_of, put, put_missing
from turnmill.store.nouns import batch_moves
from turnmill.store.nouns.batch_tending import BEYOND_ITS_COST
from turnmill.store.readable import read_one
from turnmill.store.schema.tables import batches
from turnmill.store.schema.trial_tables import trial_lines, trials
from turnmill.store.trial_records import TrialRecord
from turnmill.store.types import db_after, db_now

#: Whoever has begun to judge and has not ended for so long is lost: what he was asked is not asked
#: again, since nobody knows whether it was paid.
LOST_AFTER = timedelta(minutes=15)
#: Lines of one step.
_AT_ONCE = 100


class Step(StrEnum):
    """What a step has come to."""

    AGAIN = "again"  #: there is more to be done at once
    WAIT = "wait"  #: for what is asked, or for somebody else who is at it
    ASK = "ask"  #: a function of the operator's is to compare replies
    OVER = "over"  #: nothing more will come of the trial


def open_trials(conn: Connection, *, limit: int = 1000) -> list[UUID]:
    """Return the trials that have not ended, oldest first."""
    query = select(trials.c.id).where(trials.c.ended_at.is_(None)).order_by(trials.c.id)
    return list(conn.scalars(query.limit(limit)))


def step(conn: Connection, trial_id: UUID) -> Step:
    """Take the next step of a trial. The caller's transaction, in which nothing else is done."""
    mine = select(trials).where(trials.c.id == trial_id, trials.c.ended_at.is_(None))
    row = conn.execute(mine.with_for_update(skip_locked=True, key_share=True)).one_or_none()
    if row is None:
        return Step.WAIT
    record = read_one(row, record_of)
    if record.state is TrialState.ASKING:
        return _asked(conn, record)
    judge = judge_given(record.judge)
    assert judge is not None
    match judge.kind:
        case JudgeKind.EXACT:
            return _judged_exactly(conn, record)
        case JudgeKind.EMBEDDING:
            return _judged_elsewhere(conn, record)
        case JudgeKind.MODEL:
            return _judged_by_model(conn, record, judge)


def _asked(conn: Connection, record: TrialRecord) -> Step:
    """Go on to the judge when every turn was asked again; what has no reply is not judged."""
    if not is_over(conn, record.batch_id):
        return Step.WAIT
    put_missing(conn, record)
    if not record.judge:
        end(conn, record, TrialState.DONE)
        return Step.OVER
    state = {"state": TrialState.JUDGING.value}
    conn.execute(update(trials).where(trials.c.id == record.id).values(state))
    return Step.AGAIN


def is_over(conn: Connection, batch_id: BatchId) -> bool:
    """Tell whether a batch of the trial's has ended; one that has no money left is ended here."""
    row = conn.execute(
        select(batches.c.state, batches.c.paused_because, batches.c.ended_at).where(
            batches.c.id == batch_id
        )
    ).one_or_none()
    if row is None:
        return True
    if row.state == BatchState.PAUSED and row.paused_because == BEYOND_ITS_COST:
        batch_moves.mark_cancelled(conn, batch_id)
        return False
    return row.state in OVER and row.ended_at is not None


def _judged_exactly(conn: Connection, record: TrialRecord) -> Step:
    """Compare a page of replies, word by word."""
    lines = open_lines(conn, record.id, limit=_AT_ONCE)
    for pair in pairs_of(conn, record, lines):
        agreement = float(agree_exactly(pair.before, pair.after))
        put(conn, record.id, pair.line, {"verdict": JudgeVerdict.JUDGED, "agreement": agreement})
    if lines:
        return Step.AGAIN
    end(conn, record, TrialState.DONE)
    return Step.OVER


def _judged_elsewhere(conn: Connection, record: TrialRecord) -> Step:
    """Have somebody asked, unless all is judged, or is being judged."""
    lost = trial_lines.c.claimed_at < db_after(-LOST_AFTER.total_seconds())
    mine = trial_lines.c.trial_id == record.id, trial_lines.c.verdict == JudgeVerdict.JUDGING
    conn.execute(update(trial_lines).where(*mine, lost).values(verdict=JudgeVerdict.LOST.value))
    if open_lines(conn, record.id, limit=1):
        return Step.ASK
    if conn.execute(select(trial_lines.c.line).where(*mine).limit(1)).first() is not None:
        return Step.WAIT
    end(conn, record, TrialState.DONE)
    return Step.OVER


def _judged_by_model(conn: Connection, record: TrialRecord, judge: Judge) -> Step:
    """Ask the judge in a batch of its own, and take what it says when that has ended."""
    if not model_judging.is_asked(conn, record):
        return Step.AGAIN if model_judging.ask(conn, record, judge) else _ended(conn, record)
    assert record.judge_batch_id is not None
    if not is_over(conn, record.judge_batch_id):
        return Step.WAIT
    return Step.AGAIN if model_judging.take(conn, record) else _ended(conn, record)


def _ended(conn: Connection, record: TrialRecord) -> Step:
    end(conn, record, TrialState.DONE)
    return Step.OVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Replies that whoever has claimed them compares, once."""

    claim: UUID
    judge: Judge
    pairs: Sequence[Any] = field(repr=False)


def claim(conn: Connection, trial_id: UUID, *, claim_id: UUID, limit: int) -> Claimed | None:
    """Note that these replies are being compared; None where none is left. Commit before it is so.

    Whoever is lost after that leaves them as they are: they are not compared again.
    """
    mine = select(trials).where(trials.c.id == trial_id, trials.c.ended_at.is_(None))
    row = conn.execute(mine.with_for_update(skip_locked=True, key_share=True)).one_or_none()
    if row is None:
        return None
    record = read_one(row, record_of)
    judge = judge_given(record.judge)
    lines = open_lines(conn, trial_id, limit=limit)
    pairs = pairs_of(conn, record, lines)
    if judge is None or not lines:
        return None
    for one in pairs:
        receipt = {"verdict": JudgeVerdict.JUDGING, "claim": claim_id, "claimed_at": db_now()}
        put(conn, trial_id, one.line, receipt)
    return Claimed(claim=claim_id, judge=judge, pairs=pairs)


def keep(
    conn: Connection, trial_id: UUID, claimed: Claimed, found: Mapping[int, float | str]
) -> int:
    """Write down how near replies are, by line, or the code for which nobody can tell.

    Only what is still this claim's: who was taken for lost comes too late. Return how many.
    """
    kept = 0
    for line, said in found.items():
        values: dict[str, Any] = {"verdict": JudgeVerdict.JUDGED, "agreement": said}
        if isinstance(said, str):
            values = {"verdict": JudgeVerdict.FAILED, "error_code": said}
        kept += put(conn, trial_id, line, values, claim=claimed.claim)
    return kept
