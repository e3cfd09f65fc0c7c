"""The promises as SQL: each statement finds what breaks one, and names it by ids only."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, TextClause, Uuid, bindparam, column, literal_column, text

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, UNFINISHED
from turnmill.store.line.leases import LOSSES_TO_DEATH
from turnmill.store.rules.buckets import slot_of
from turnmill.store.schema.metadata import sql_list
from turnmill.store.schema_name import named
from turnmill.store.types import Timestamp
from turnmill.store.upkeep.invariant import Invariant
from turnmill.store.upkeep.invariants_of_batches import OF_BATCHES
from turnmill.store.upkeep.invariants_of_budgets import OF_BUDGETS
from turnmill.store.upkeep.invariants_of_events import OF_EVENTS
from turnmill.store.upkeep.invariants_of_figures import OF_FIGURES
from turnmill.store.upkeep.invariants_of_limits import OF_LIMITS
from turnmill.store.upkeep.invariants_of_people import OF_PEOPLE
from turnmill.store.upkeep.invariants_of_schedules import OF_SCHEDULES
from turnmill.store.upkeep.invariants_of_shards import OF_SHARDS
from turnmill.store.upkeep.invariants_of_steps import OF_STEPS
from turnmill.store.upkeep.invariants_of_trials import OF_TRIALS

_FINAL = sql_list(frozenset(FINAL))
_UNFINISHED = sql_list(frozenset(UNFINISHED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was broken, and where. Nothing of what users wrote."""

    name: str
    promise: str
    session_id: SessionId
    turn_id: TurnId | None

    def __str__(self) -> str:
        where = f"session {self.session_id}"
        if self.turn_id is not None:
            where += f", turn {self.turn_id}"
        return f"{self.name} ({where})"


# `NOT EXISTS (SELECT a INTERSECT SELECT b)` is `a IS DISTINCT FROM b` in words that SQLite knows.
INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        name="head_is_first_unfinished",
        promise="The head of a session is its first unfinished turn: nothing waits unseen.",
        broken=f"""
            SELECT s.id AS session_id, s.head_turn_id AS turn_id FROM turnmill.sessions s
            WHERE {{sessions}} AND NOT EXISTS (SELECT s.head_turn_id INTERSECT SELECT (
                SELECT t.id FROM turnmill.turns t
                WHERE t.session_id = s.id AND t.state IN {_UNFINISHED}
                ORDER BY t.seq LIMIT 1))
        """,
    ),
    Invariant(
        name="unfinished_is_counted",
        promise="A session counts exactly its turns that are not final.",
        broken=f"""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            WHERE {{sessions}} AND s.unfinished <> (
                SELECT count(*) FROM turnmill.turns t
                WHERE t.session_id = s.id AND t.state IN {_UNFINISHED})
        """,
    ),
    Invariant(
        name="turns_are_totalled",
        promise="A session's totals are the numbers of its turns that succeeded, and that failed.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id
            FROM turnmill.sessions s LEFT JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {sessions}
            GROUP BY s.id, s.turns_succeeded, s.turns_failed
            HAVING s.turns_succeeded <> sum(CASE WHEN t.state = 'succeeded' THEN 1 ELSE 0 END)
                OR s.turns_failed <> sum(CASE WHEN t.state IN ('failed', 'dead') THEN 1 ELSE 0 END)
        """,
    ),
    Invariant(
        name="head_is_due_unless_running_or_held",
        promise="A head has a due time unless it runs, waits for a batch at its vendor, or is held"
        " for an operator: it is found.",
        broken="""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.id = s.head_turn_id
            WHERE {sessions} AND (
                (t.state = 'running' AND s.head_due_at IS NOT NULL)
                OR (t.state <> 'running' AND s.head_due_at IS NULL
                    AND NOT (t.state = 'waiting' AND t.waits_for IS NOT NULL
                        AND t.waits_for = 'batch')
                    AND NOT (t.state = 'unknown' AND s.on_ambiguous = 'hold'
                        AND t.sent_at IS NOT NULL)))
        """,
    ),
    Invariant(
        name="no_head_no_due_time",
        promise="A session with nothing to run is announced to nobody.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            WHERE {sessions} AND s.head_turn_id IS NULL
                AND (s.head_due_at IS NOT NULL OR s.head_lane IS NOT NULL)
        """,
    ),
    Invariant(
        name="head_lane_is_true",
        promise="A head waits in the lane of its turn, and in quarantine once it was lost.",
        broken="""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.id = s.head_turn_id
            WHERE {sessions} AND NOT EXISTS (SELECT s.head_lane INTERSECT SELECT
                CASE WHEN t.lost > 0 THEN 'quarantine' ELSE t.lane END)
        """,
    ),
    Invariant(
        name="one_reply_if_succeeded",
        promise="A turn has exactly one reply if it succeeded, and none otherwise.",
        broken="""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {sessions} AND CASE WHEN t.state = 'succeeded' THEN 1 ELSE 0 END <> (
                SELECT count(*) FROM turnmill.messages m
                WHERE m.turn_id = t.id AND m.final AND m.role = 'assistant')
        """,
    ),
    Invariant(
        name="partial_only_if_cancelled",
        promise="What had come of a reply is kept of cancelled turns only, once, as no reply.",
        broken="""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            JOIN turnmill.messages m ON m.turn_id = t.id AND m.partial
            WHERE {sessions} AND (t.state <> 'cancelled' OR NOT t.keep_partial OR m.final
                OR m.role <> 'assistant')
        """,
    ),
    Invariant(
        name="every_turn_says_something",
        promise="In every turn that was sent a user says something, and every message is of its"
        " turn's session.",
        broken="""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {sessions} AND (
                NOT (t.state = 'succeeded' AND t.claims = 0) AND NOT EXISTS (
                    SELECT 1 FROM turnmill.messages m WHERE m.turn_id = t.id AND m.role = 'user')
                OR EXISTS (SELECT 1 FROM turnmill.messages m
                    WHERE m.turn_id = t.id AND m.session_id <> t.session_id))
        """,
    ),
    Invariant(
        name="one_running",
        promise="At most one turn of a session runs.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {sessions} AND t.state = 'running'
            GROUP BY s.id HAVING count(*) > 1
        """,
    ),
    Invariant(
        name="running_is_leased",
        promise="A turn runs exactly while somebody holds its lease and its attempt has no end.",
        broken="""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {sessions} AND (
                (t.state = 'running') <> (t.lease_owner IS NOT NULL)
                OR (t.state = 'running') <> (t.lease_until IS NOT NULL)
                OR CASE WHEN t.state = 'running' THEN 1 ELSE 0 END <> (
                    SELECT count(*) FROM turnmill.attempts a
                    WHERE a.turn_id = t.id AND a.ended_at IS NULL)
                OR (t.state = 'running' AND NOT EXISTS (
                    SELECT 1 FROM turnmill.attempts a
                    WHERE a.turn_id = t.id AND a.fence = t.lease_fence AND a.ended_at IS NULL)))
        """,
    ),
    Invariant(
        name="final_has_an_end",
        promise="A turn has an end exactly if it is final.",
        broken=f"""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {{sessions}} AND (t.state IN {_FINAL}) <> (t.finished_at IS NOT NULL)
        """,
    ),
    Invariant(
        name="in_order",
        promise="Turns are claimed in the order of seq: replies stand in the order of questions.",
        broken="""
            SELECT line.session_id, line.turn_id FROM (
                SELECT t.session_id, t.id AS turn_id, t.seq,
                    lag(t.seq) OVER (PARTITION BY t.session_id ORDER BY a.fence) AS before
                FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
                JOIN turnmill.attempts a ON a.turn_id = t.id
                WHERE {sessions}
            ) AS line WHERE line.before > line.seq
        """,
    ),
    Invariant(
        name="attempts_never_overlap",
        promise="An attempt of a session starts after the attempt before it has ended.",
        broken="""
            SELECT line.session_id, line.turn_id FROM (
                SELECT t.session_id, t.id AS turn_id, a.started_at,
                    lag(a.fence) OVER before AS fence, lag(a.ended_at) OVER before AS ended_at
                FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
                JOIN turnmill.attempts a ON a.turn_id = t.id
                WHERE {sessions}
                WINDOW before AS (PARTITION BY t.session_id ORDER BY a.fence)
            ) AS line
            WHERE line.fence IS NOT NULL
                AND (line.ended_at IS NULL OR line.ended_at > line.started_at)
        """,
    ),
    Invariant(
        name="attempts_are_finite",
        promise="A turn spends no more attempts than it may, is lost no more often than kills it,"
        " and keeps a row of each attempt, with the number of claims that asked for it.",
        broken=f"""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {{sessions}} AND (
                t.attempt < 0 OR t.attempt > t.max_attempts OR t.lost > {LOSSES_TO_DEATH}
                OR t.claims <> (
                    SELECT COALESCE(sum(1 + a.polls), 0) FROM turnmill.attempts a
                    WHERE a.turn_id = t.id)
                OR EXISTS (SELECT 1 FROM turnmill.attempts a
                    WHERE a.turn_id = t.id AND (a.put_off < 0 OR a.put_off > 1 + a.polls)))
        """,
    ),
    Invariant(
        name="fence_rises",
        promise="Every claim of a session has a fence of its own, one above that before it;"
        " an attempt stands under that of its last claim.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id
            FROM turnmill.sessions s LEFT JOIN turnmill.turns t ON t.session_id = s.id
            LEFT JOIN turnmill.attempts a ON a.turn_id = t.id
            WHERE {sessions}
            GROUP BY s.id, s.fence
            HAVING count(DISTINCT a.fence) <> count(a.fence)
                OR COALESCE(sum(1 + a.polls), 0) <> s.fence OR COALESCE(max(a.fence), 0) <> s.fence
                OR COALESCE(min(a.fence - a.polls), 1) <> 1
        """,
    ),
    Invariant(
        name="seq_is_gapless",
        promise="The turns of a session are numbered from 1, without a gap.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id
            FROM turnmill.sessions s LEFT JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {sessions}
            GROUP BY s.id, s.next_seq
            HAVING count(DISTINCT t.seq) <> s.next_seq - 1 OR count(t.seq) <> s.next_seq - 1
                OR COALESCE(min(t.seq), 1) <> 1 OR COALESCE(max(t.seq), 0) <> s.next_seq - 1
        """,
    ),
    Invariant(
        name="what_a_vendor_keeps_is_known",
        promise="The thread that a session stands on, and work that a turn waits for, are known as"
        " something that the vendor keeps.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            WHERE {sessions} AND s.provider_ref <> '' AND NOT EXISTS (
                SELECT 1 FROM turnmill.kept_refs k
                WHERE k.session_id = s.id AND k.ref = s.provider_ref)
            UNION ALL
            SELECT s.id, t.id FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {sessions} AND t.state = 'waiting' AND t.native_ref <> ''
                AND COALESCE(t.waits_for, '') <> 'batch' AND NOT EXISTS (
                SELECT 1 FROM turnmill.kept_refs k
                WHERE k.session_id = s.id AND k.ref = t.native_ref AND k.running)
        """,
    ),
    Invariant(
        name="nobody_works_for_a_turn_that_ended",
        promise="What a vendor still does for a turn that has ended is to be stopped.",
        broken=f"""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            JOIN turnmill.kept_refs k ON k.session_id = s.id AND k.turn_id = t.id
            WHERE {{sessions}} AND k.running AND k.due_at IS NULL AND t.state IN {_FINAL}
        """,
    ),
    Invariant(
        name="what_ended_is_given_up",
        promise="What vendors keep of an archived session is to be deleted there.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            JOIN turnmill.kept_refs k ON k.session_id = s.id
            WHERE {sessions} AND s.status IN ('archived', 'deleted') AND k.due_at IS NULL
        """,
    ),
    Invariant(
        name="usage_is_counted_once",
        promise="What a session and a turn have used is the sum of their attempts.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id
            FROM turnmill.sessions s LEFT JOIN turnmill.turns t ON t.session_id = s.id
            LEFT JOIN turnmill.attempts a ON a.turn_id = t.id
            WHERE {sessions}
            GROUP BY s.id, s.input_tokens, s.output_tokens
            HAVING COALESCE(sum(a.input_tokens), 0) <> s.input_tokens
                OR COALESCE(sum(a.output_tokens), 0) <> s.output_tokens
        """,
    ),
    *OF_EVENTS,
    *OF_FIGURES,
    *OF_STEPS,
    *OF_BUDGETS,
    *OF_PEOPLE,
    *OF_SCHEDULES,
    *OF_LIMITS,
    *OF_SHARDS,
    *OF_TRIALS,
    *OF_BATCHES,
)

#: Holds only when everything that was accepted has had the time to end.
DRAINED = Invariant(
    name="all_final_after_drain",
    promise="Everything that was accepted comes to an end.",
    broken=f"""
        SELECT s.id AS session_id, t.id AS turn_id
        FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
        WHERE {{sessions}} AND t.state IN {_UNFINISHED}
    """,
)

_EVERY = "1 = 1"
# Two halves, so that each has its index: the lines that are open, and what ended in the window.
_TOUCHED = f"""s.id IN (
    SELECT t.session_id FROM turnmill.turns t WHERE t.state IN {_UNFINISHED}
    UNION SELECT t.session_id FROM turnmill.turns t WHERE t.finished_at >= :since)"""


def violations(
    conn: Connection, *, drained: bool = False, since: datetime | None = None, limit: int = 20
) -> list[Violation]:
    """Return what breaks a promise, at most `limit` of each kind; an empty list is a clean bill.

    `drained` adds that every turn is final. With `since` only sessions are looked at that have an
    unfinished turn, or one that ended since then: for a look every hour at a large store. Each
    promise is one statement, so turns that move meanwhile break none.
    """
    wanted = (*INVARIANTS, DRAINED) if drained else INVARIANTS
    return [
        violation
        for invariant in wanted
        for violation in _broken(conn, invariant, since=since, limit=limit)
    ]


def _broken(
    conn: Connection, invariant: Invariant, *, since: datetime | None, limit: int
) -> Iterator[Violation]:
    rows = conn.execute(
        _statement(conn, invariant, windowed=since is not None),
        {"limit": limit} | ({} if since is None else {"since": since}),
    )
    for session_id, turn_id in rows:
        yield Violation(
            name=invariant.name,
            promise=invariant.promise,
            session_id=SessionId(session_id),
            turn_id=None if turn_id is None else TurnId(turn_id),
        )


def _statement(conn: Connection, invariant: Invariant, *, windowed: bool) -> Any:
    return _asking(_worded(conn, invariant, windowed=windowed), windowed=windowed)


def _worded(conn: Connection, invariant: Invariant, *, windowed: bool) -> str:
    ended_in = slot_of(literal_column("t.finished_at")).compile(dialect=conn.dialect)
    slot = str(ended_in).replace(":", r"\:")  # no parameters begin there
    sql = invariant.broken.format(
        sessions=_TOUCHED if windowed else _EVERY,
        turns=f"t.finished_at >= :since AND {slot} >= :since" if windowed else _EVERY,
        slot=slot,
    )
    return named(conn, sql)


@lru_cache(maxsize=256)
def _asking(broken: str, *, windowed: bool) -> Any:
    statement: TextClause = text(
        f"SELECT session_id, turn_id FROM ({broken}) AS broken LIMIT :limit"
    )
    if windowed:
        statement = statement.bindparams(bindparam("since", type_=Timestamp()))
    return statement.columns(column("session_id", Uuid()), column("turn_id", Uuid()))
