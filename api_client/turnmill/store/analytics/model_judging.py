"""A model as judge: asked through the queue, in a batch of the trial's own, twice for each line.

Lines 2n - 1 and 2n of the batch are those of line n of the trial: first the reply of before stands
first, then the other one. They belong to the user whose replies they hold.
"""

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

from sqlalchemy import Connection, select, update

from turnmill.domain.analytics.judging import (
    INSTRUCTIONS,
    Judge,
    JudgeVerdict,
    Opinion,
    compared,
    opinion_in,
    question_for,
)
from turnmill.domain.batch_modes import AUTO
from turnmill.domain.batches import BatchMode, BatchState
from turnmill.domain.ids import BatchId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics.trial_results import sides_of
from turnmill.store.analytics.verdicts import Pair, open_lines, pairs_of, put
from turnmill.store.batch_records import StagedLine
from turnmill.store.nouns import batch_moves, batch_staging, batches
from turnmill.store.nouns.batch_staging import HowToRun
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches as batch_rows
from turnmill.store.schema.trial_tables import trials
from turnmill.store.trial_records import TrialRecord, TrialSide

#: Lines of the trial whose questions are written in one commit, and whose answers are read.
_AT_ONCE = 50
#: Bytes of four are a token, about.
_BYTES_OF_TOKEN = 4
#: The judge has answered, and not as it was asked to.
UNCLEAR = "judge_unclear"
#: It has not answered, and nobody says why.
SILENT = "judge_silent"


def is_asked(conn: Connection, record: TrialRecord) -> bool:
    """Tell whether every question stands, and the batch of them runs or has run."""
    state = conn.scalar(select(batch_rows.c.state).where(batch_rows.c.id == record.judge_batch_id))
    return state is not None and state != BatchState.SUBMITTING


def ask(conn: Connection, record: TrialRecord, judge: Judge) -> bool:
    """Write the next questions, or let their batch run where all stand.

    False where there is nothing to ask. What stands is known by its batch, so that nothing is asked
    twice, whoever goes on.
    """
    if not open_lines(conn, record.id, limit=1):
        return False
    begun = _batch(conn, record, judge)
    if begun is None:
        return True
    batch_id, asked = begun
    lines = open_lines(conn, record.id, limit=_AT_ONCE, after=asked)
    if lines:
        questions = [one for pair in pairs_of(conn, record, lines) for one in _asked(pair)]
        batch_staging.stage(conn, batch_id, questions, last=2 * lines[-1])
        return True
    mode = conn.scalar(select(batch_rows.c.mode).where(batch_rows.c.id == record.batch_id))
    same = mode == BatchMode.LIVE
    run = HowToRun(
        mode=BatchMode.LIVE.value if same else AUTO,
        on_leftover="live",
        providers=frozenset({judge.provider}),
    )
    batch_staging.seal(conn, batch_id, hashes=[record.id.bytes], name=_name(record), run=run)
    return True


def _name(record: TrialRecord) -> str:
    return f"trial:{record.name}:judge"


def _batch(conn: Connection, record: TrialRecord, judge: Judge) -> tuple[BatchId, int] | None:
    """Return the batch, and the last line of the trial of which it asks; None: it was made now."""
    row = conn.execute(
        select(batch_rows.c.id, batch_rows.c.last_line).where(
            batch_rows.c.id == record.judge_batch_id
        )
    ).one_or_none()
    if row is not None:
        return BatchId(row.id), row.last_line // 2
    batch = batches.create(
        conn,
        BatchId(new_id()),
        name=_name(record),
        hashes=[record.id.bytes],
        metadata={"trial": record.name},
        settings={},
        defaults={"provider": judge.provider, "model": judge.model},
    )
    mine = update(trials).where(trials.c.id == record.id)
    conn.execute(mine.values(judge_batch_id=batch.id))
    if record.judge_usd is not None:
        most, budget_id = record.judge_usd, new_id()
        batch_moves.bound(conn, batch.id, max_cost_usd=most, deadline=None, budget_id=budget_id)
    return None


def _asked(pair: Pair) -> list[StagedLine]:
    return [
        _question(pair, 2 * pair.line - 1, pair.before, pair.after),
        _question(pair, 2 * pair.line, pair.after, pair.before),
    ]


def _question(pair: Pair, number: int, first: str, second: str) -> StagedLine:
    text = question_for(pair.request, first, second, mark=token_hex(8))
    return StagedLine(
        number=number,
        content={"text": text, "system_prompt": INSTRUCTIONS},
        custom_id=str(number),
        user_id=pair.user_id,
        weight=len(text) // _BYTES_OF_TOKEN,
    )


def take(conn: Connection, record: TrialRecord) -> bool:
    """Take in what the judge has said of the next lines; False where none is left."""
    lines = open_lines(conn, record.id, limit=_AT_ONCE)
    if not lines:
        return False
    numbers = [number for line in lines for number in (2 * line - 1, 2 * line)]
    said = _said(conn, record, numbers)
    for line in lines:
        put(conn, record.id, line, _verdict(said.get(2 * line - 1), said.get(2 * line)))
    return True


def _said(
    conn: Connection, record: TrialRecord, numbers: Sequence[int]
) -> Mapping[int, TrialSide | str | None]:
    """Return what became of questions, by their numbers: a reply, or why there is none."""
    mine = batch_lines.c.batch_id == record.judge_batch_id, batch_lines.c.line.in_(numbers)
    columns = (batch_lines.c.line, batch_lines.c.turn_id, batch_lines.c.error_code)
    rows = conn.execute(select(*columns).where(*mine)).all()
    sides = sides_of(conn, [row.turn_id for row in rows if row.turn_id is not None])
    return {row.line: sides.get(row.turn_id, row.error_code) for row in rows}


def _verdict(first: TrialSide | str | None, second: TrialSide | str | None) -> Mapping[str, Any]:
    opinions = [_opinion(one) for one in (first, second)]
    in_order, swapped = opinions
    if isinstance(in_order, Opinion) and isinstance(swapped, Opinion):
        found = compared(in_order, swapped)
        return {
            "verdict": JudgeVerdict.JUDGED,
            "agreement": found.agreement,
            "preferred": found.preferred,
            "swayed": found.swayed,
        }
    code = next(one for one in opinions if isinstance(one, str))
    return {"verdict": JudgeVerdict.FAILED, "error_code": code}


def _opinion(said: TrialSide | str | None) -> Opinion | str:
    """Return what the judge has said, or the code for which there is nothing."""
    if not isinstance(said, TrialSide):
        return said or SILENT
    if said.state is not TurnState.SUCCEEDED or said.text is None:
        return said.error_code or SILENT
    return opinion_in(said.text) or UNCLEAR
