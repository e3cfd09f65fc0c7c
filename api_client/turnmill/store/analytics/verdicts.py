"""Lines of trials on their way to a verdict: which are open, what is compared, what is said."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, update

from turnmill.domain.analytics.judging import JudgeVerdict
from turnmill.domain.content import text_of
from turnmill.domain.errors import DataKeyMissing
from turnmill.domain.states import TurnState
from turnmill.store.analytics.trial_results import results
from turnmill.store.codec import parts_from
from turnmill.store.readable import ODD
from turnmill.store.schema.tables import messages
from turnmill.store.schema.trial_tables import trial_lines
from turnmill.store.trial_records import TrialRecord, TrialResult
from turnmill.store.vaults import plain

_line = trial_lines.c
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two replies to one request."""

    line: int
    user_id: str = field(repr=False)
    request: str = field(repr=False)
    before: str = field(repr=False)
    after: str = field(repr=False)


def open_lines(conn: Connection, trial_id: UUID, *, limit: int, after: int = 0) -> list[int]:
    """Return lines that nobody has compared, or begun to, in their order."""
    mine = _line.trial_id == trial_id, _line.verdict == JudgeVerdict.OPEN, _line.line > after
    return list(conn.scalars(select(_line.line).where(*mine).order_by(_line.line).limit(limit)))


def pairs_of(conn: Connection, record: TrialRecord, lines: Sequence[int]) -> list[Pair]:
    """Return what is compared in these lines; those without two replies are noted as missing.

    The caller's transaction.
    """
    if not lines:
        return []
    wanted = set(lines)
    span = lines[-1] - lines[0] + 1
    page = results(conn, record, after=lines[0] - 1, limit=span)
    found = [one for one in page if one.line in wanted]
    said = _requests(conn, [one.before.turn_id for one in found if one.before is not None])
    pairs = []
    for one in found:
        pair = _pair(one, said)
        if pair is None:
            put(conn, record.id, one.line, {"verdict": JudgeVerdict.MISSING})
        else:
            pairs.append(pair)
    return pairs


def _pair(one: TrialResult, said: Mapping[Any, str]) -> Pair | None:
    if one.before is None or one.after is None or one.after.state is not TurnState.SUCCEEDED:
        return None
    before, after = one.before.text, one.after.text
    if before is None or after is None:
        return None
    return Pair(
        line=one.line,
        user_id=one.user_id,
        request=said.get(one.before.turn_id, ""),
        before=before,
        after=after,
    )


def _requests(conn: Connection, turn_ids: Sequence[Any]) -> Mapping[Any, str]:
    """Return what was asked in these turns, in words."""
    texts: defaultdict[Any, list[str]] = defaultdict(list)
    rows = conn.execute(
        select(messages.c.turn_id, messages.c.content)
        .where(messages.c.turn_id.in_(turn_ids), messages.c.role == "user")
        .order_by(messages.c.turn_id, messages.c.position)
    )
    for row in rows:
        try:
            texts[row.turn_id].append(text_of(parts_from(plain(row.content))))
        except (DataKeyMissing, *ODD):
            continue
    return {turn_id: "\n\n".join(said) for turn_id, said in texts.items()}


def put_missing(conn: Connection, record: TrialRecord) -> None:
    """Note of which lines there is nothing to compare."""
    page = results(conn, record, limit=_PAGE)
    while page:
        for one in page:
            is_there = one.after is not None and one.after.state is TurnState.SUCCEEDED
            if one.verdict is JudgeVerdict.OPEN and (one.before is None or not is_there):
                put(conn, record.id, one.line, {"verdict": JudgeVerdict.MISSING})
        page = results(conn, record, after=page[-1].line, limit=_PAGE)


def put(
    conn: Connection,
    trial_id: UUID,
    line: int,
    values: Mapping[str, Any],
    *,
    claim: UUID | None = None,
) -> int:
    """Write what has become of a line that is open, or is this claim's; return 1, or 0."""
    mine = [_line.trial_id == trial_id, _line.line == line]
    if claim is None:
        mine.append(_line.verdict == JudgeVerdict.OPEN)
    else:
        mine += [_line.verdict == JudgeVerdict.JUDGING, _line.claim == claim]
    said = {name: str(v) if isinstance(v, JudgeVerdict) else v for name, v in values.items()}
    return conn.execute(update(trial_lines).where(*mine).values(said)).rowcount
