"""Rows of other tables that go with a verdict, in the same commit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Boolean, FromClause, Select, Table, Text, and_, case, func, or_, select, true
from sqlalchemy.types import TypeEngine

from turnmill.domain.content import Message
from turnmill.domain.states import SessionStatus, TurnState
from turnmill.store.codec import rows_of
from turnmill.store.records import Settlement
from turnmill.store.rules.sealing import Sealer
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.tables import messages, sessions
from turnmill.store.types import db_now, insert_for


class Rider(NamedTuple):
    """Rows that a verdict brings: what they say, and what is written of it."""

    name: str  #: of its part of a statement
    table: Table
    says: Mapping[str, TypeEngine[Any]]  #: what each row that is brought says
    rows_of: Callable[[Any], Sequence[Mapping[str, Any]]]  #: of a Settlement, or a Step
    #: what is written for a row `r` of a turn, whose state is what it has become
    writes: Callable[[FromClause, FromClause], Select[Any]]
    #: what becomes of a row that stands already, from that and the new one; {}: there is none
    merges: Mapping[str, Callable[[Any, Any], Any]]
    always: bool  #: most verdicts bring some


def insert_of(rider: Rider, *, brought: FromClause, turn: FromClause, dialect: str) -> Any:
    """Return the INSERT of all rows brought for these turns."""
    chosen = rider.writes(brought, turn)
    names = [one.name for one in chosen.selected_columns]
    statement = insert_for(dialect, rider.table).from_select(names, chosen)
    if not rider.merges:
        return statement
    known, new = rider.table.c, statement.excluded
    return statement.on_conflict_do_update(
        index_elements=list(rider.table.primary_key.columns),
        set_={name: merge(known[name], new[name]) for name, merge in rider.merges.items()},
    )


def _reply(settlement: Settlement) -> Sequence[Mapping[str, Any]]:
    """Return all that was said in reply, or had come of it; the last is the reply to show."""
    said = settlement.replies
    if settlement.state is not TurnState.SUCCEEDED:
        if not settlement.partial:
            return ()
        said = (Message.of("assistant", settlement.partial),)
    rows = rows_of(said, first=settlement.position)
    for row in rows:
        row["final"] = row is rows[-1]
    return rows


def _reply_rows(r: Any, turn: Any) -> Select[Any]:
    """Write the reply of a turn that has succeeded.

    Of one that was cancelled, though its reply came meanwhile, it is a part that may be kept: what
    the row says is newer than what the worker knew when it claimed the turn.
    """
    succeeded = turn.c.state == TurnState.SUCCEEDED.value
    cancelled = turn.c.state == TurnState.CANCELLED.value
    return (
        select(
            turn.c.session_id,
            turn.c.id.label("turn_id"),
            *(r.c[name] for name in REPLY.says if name != "final"),
            and_(succeeded, r.c.final).label("final"),
            cancelled.label("partial"),
        )
        .join_from(turn, r, r.c.turn_id == turn.c.id)
        .where(or_(succeeded, and_(cancelled, turn.c.keep_partial)))
    )


def sealed_rows(
    rider: Rider, said: Any, settlement: Settlement, sealer: Sealer | None
) -> Sequence[Mapping[str, Any]]:
    """Return the rows that are brought, with their content as it is to stand."""
    rows = rider.rows_of(said)
    if sealer is not None and rider.table is messages:
        sealer.messages(settlement.session_id, settlement.turn_id, rows)  # type: ignore[arg-type]
    return rows


REPLY = Rider(
    name="reply",
    table=messages,
    says={name: messages.c[name].type for name in ("id", "position", "role", "content", "final")},
    rows_of=_reply,
    writes=_reply_rows,
    merges={},
    always=True,
)


def _kept(settlement: Settlement) -> Sequence[Mapping[str, Any]]:
    return [{name: getattr(one, name) for name in KEPT.says} for one in settlement.kept]


def _kept_rows(r: Any, turn: Any) -> Select[Any]:
    """What a turn leaves behind that nobody will continue from is given up in the same commit.

    The thread that the session stands on is not, though a cancelled turn came back with it, and
    neither is one that it has adopted.
    """
    s = sessions.alias("s")
    left = or_(turn.c.state == TurnState.CANCELLED.value, ~r.c.wanted)
    unwanted = or_(
        s.c.status == SessionStatus.DELETED.value,
        and_(r.c.ref != s.c.provider_ref, r.c.ref.is_distinct_from(s.c.adopted), left),
    )
    since = case((unwanted, db_now()))
    return (
        select(
            turn.c.session_id,
            r.c.ref,
            r.c.provider,
            turn.c.id.label("turn_id"),
            r.c.stored,
            r.c.running,
            since.label("unwanted_at"),
            since.label("due_at"),
        )
        .join_from(turn, r, r.c.turn_id == turn.c.id)
        .join(s, s.c.id == turn.c.session_id)
        .where(true())  # or SQLite takes ON CONFLICT for a condition of the join
    )


KEPT = Rider(
    name="kept",
    table=kept_refs,
    says={
        "ref": Text(),
        "provider": Text(),
        "stored": Boolean(),
        "running": Boolean(),
        "wanted": Boolean(),
    },
    rows_of=_kept,
    writes=_kept_rows,
    merges={
        "stored": or_,
        "running": lambda known, new: new,
        "unwanted_at": func.coalesce,
        "due_at": func.coalesce,
    },
    always=False,
)

RIDERS: tuple[Rider, ...] = (REPLY, KEPT)
