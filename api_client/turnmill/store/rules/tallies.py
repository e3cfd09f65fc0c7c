"""How far a batch is: its turns that have ended, counted by state and code in the same commit.

Each connection counts in rows of its own, so that nobody waits for another one's commit. A count is
of lines: of a line with several turns, of its last one. What was spent is of all its turns, and
stays so when one of them is gone.
"""

from collections.abc import Collection, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Uuid,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
)

from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import FINAL
from turnmill.store.capabilities import Capability, capabilities_in
from turnmill.store.rules.endings import in_chunks
from turnmill.store.rules.used import UNPRICED_SQL, unpriced
from turnmill.store.schema.batch_tables import batch_tallies
from turnmill.store.schema.tables import turns
from turnmill.store.types import db_now, insert_for

#: Rows of a batch in which its endings are counted: by the process of a connection's server.
PARTS = 32_768
#: What else is counted of lines: those that came to no turn, and whose turns are gone.
REUSED, DROPPED, GONE = "reused", "dropped", "gone"
_SUMS = ("n", "cost_usd", "unpriced", "input_tokens", "output_tokens")
_KEY = ("batch_id", "part", "state", "error_code")


def count_ended(conn: Connection, turn_ids: Sequence[TurnId]) -> None:
    """Count these turns, which have just ended. In the transaction that has ended them."""
    counting = _counting_ended(conn.dialect.name)
    for some in in_chunks(turn_ids):
        conn.execute(counting, {"ended": some})


@cache
def _counting_ended(dialect: str) -> Any:
    mine = turns.c.id.in_(bindparam("ended", expanding=True))
    return _counting(dialect, mine, lines=1, spent=1)


def count_no_more(conn: Connection, *which: ColumnElement[bool], runs_again: bool) -> None:
    """Take back what these turns have counted for, before they run again, or go.

    What one that runs again has spent is counted with its next end.
    """
    _count(conn, *which, lines=-1, spent=-1 if runs_again else 0)


def count_gone(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Do so before these sessions go, and count the lines whose turns go with them."""
    mine = turns.c.session_id.in_(session_ids)
    count_no_more(conn, mine, runs_again=False)
    of_batch = turns.c.batch_line.is_not(None)
    query = select(turns.c.batch_id, func.count()).where(mine, of_batch).group_by(turns.c.batch_id)
    for batch_id, lines in conn.execute(query).all():
        count_lines(conn, BatchId(batch_id), GONE, lines)


def count_lines(
    conn: Connection, batch_id: BatchId, what: str, lines: int, *, error_code: str = ""
) -> None:
    """Count lines that have no turn: REUSED, DROPPED or GONE."""
    dialect = conn.dialect.name
    key = (literal(batch_id, Uuid()), _part(dialect), literal(what), literal(error_code))
    rows = select(*key, literal(lines), db_now())
    conn.execute(_adding(dialect, rows, (*_KEY, "n", "last_at")))


def count_spent(
    conn: Connection,
    batch_id: BatchId,
    *,
    cost_usd: Decimal | None,
    input_tokens: int,
    output_tokens: int,
) -> None:
    """Count what was spent on a line whose turn is gone, and that as a line is counted already."""
    dialect = conn.dialect.name
    key = (literal(batch_id, Uuid()), _part(dialect), literal(GONE), literal(""))
    used = (0, cost_usd or Decimal(0), int(cost_usd is None), input_tokens, output_tokens)
    sums = (literal(one, batch_tallies.c[name].type) for name, one in zip(_SUMS, used, strict=True))
    rows = select(*key, *sums, db_now())
    conn.execute(_adding(dialect, rows, (*_KEY, *_SUMS, "last_at")))


def recount(conn: Connection, batch_id: BatchId) -> None:
    """Count all turns of a batch anew, of which none is open: workers of before count nothing."""
    mine = batch_tallies.c.batch_id == batch_id
    of_turns = batch_tallies.c.state.in_(FINAL)
    conn.execute(delete(batch_tallies).where(mine, of_turns))
    _count(conn, turns.c.batch_id == batch_id, lines=1, spent=1)


def _count(conn: Connection, *which: ColumnElement[bool], lines: int, spent: int) -> None:
    conn.execute(_counting(conn.dialect.name, *which, lines=lines, spent=spent))


def _counting(dialect: str, *which: ColumnElement[bool], lines: int, spent: int) -> Any:
    chosen = _ended(dialect, lines=lines, spent=spent).where(*which)
    # In an order, so that two connections that share a row do not wait for each other.
    rows = chosen.order_by("batch_id", "state", "error_code")
    return _adding(dialect, rows, (*_KEY, *_SUMS, "last_at"))


def _adding(dialect: str, rows: Any, names: Sequence[str]) -> Any:
    statement = insert_for(dialect, batch_tallies).from_select(list(names), rows)
    known, new = batch_tallies.c, statement.excluded
    sums = {name: known[name] + new[name] for name in _SUMS}
    return statement.on_conflict_do_update(
        index_elements=list(_KEY), set_={**sums, "last_at": new.last_at}
    )


def _ended(dialect: str, *, lines: int, spent: int) -> Any:
    of_no_price = case((unpriced(turns.c), 1), else_=0)
    used = (turns.c.cost_usd, of_no_price, turns.c.input_tokens, turns.c.output_tokens)
    sums = (func.coalesce(func.sum(one), 0) * spent for one in used)
    code = func.coalesce(turns.c.error_code, "")
    return (
        select(
            turns.c.batch_id,
            _part(dialect).label("part"),
            turns.c.state,
            code.label("error_code"),
            (func.count(turns.c.batch_line) * lines).label("n"),
            *(one.label(name) for name, one in zip(_SUMS[1:], sums, strict=True)),
            db_now().label("last_at"),
        )
        .where(turns.c.batch_id.is_not(None), turns.c.state.in_(FINAL))
        .group_by(turns.c.batch_id, turns.c.state, code)
    )


def _part(dialect: str) -> ColumnElement[int]:
    if Capability.ROW_LOCKS in capabilities_in(dialect):
        return func.pg_backend_pid(type_=Integer) % PARTS
    return literal(0)


#: What the statement that settles tells of each turn besides, where some are of batches.
OF_TURN_SQL = """, t.batch_id, t.batch_line, t.error_code,
        t.cost_usd, t.input_tokens, t.output_tokens, t.attempt"""
#: Its part that counts those `turn`s that have ended.
TALLY_SQL = f"""tally AS (
    INSERT INTO turnmill.batch_tallies AS b
        ({", ".join((*_KEY, *_SUMS))}, last_at)
    SELECT turn.batch_id, pg_backend_pid() %% {PARTS}, turn.state, COALESCE(turn.error_code, ''),
        count(turn.batch_line), COALESCE(sum(turn.cost_usd), 0),
        count(*) FILTER (WHERE {UNPRICED_SQL}),
        COALESCE(sum(turn.input_tokens), 0), COALESCE(sum(turn.output_tokens), 0),
        clock_timestamp()
    FROM turn WHERE turn.is_final AND turn.batch_id IS NOT NULL
    GROUP BY 1, 3, 4 ORDER BY 1, 3, 4
    ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET
        {", ".join(f"{name} = b.{name} + excluded.{name}" for name in _SUMS)},
        last_at = excluded.last_at
), """
