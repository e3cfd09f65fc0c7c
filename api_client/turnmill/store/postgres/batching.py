"""Turns in the batches of vendors, on Postgres: taken out of their lines' way, and taken back."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Connection

from turnmill.crypto.envelope import SEALED_IN
from turnmill.domain.errors import DataKeyMissing, SealBroken
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.json_values import lenient_json
from turnmill.domain.states import FOR_BATCH, Lane, OnAmbiguous
from turnmill.store.codec import StoredHistory, object_of, said_from
from turnmill.store.postgres.looking import HISTORY_OF, placed
from turnmill.store.records import Claim, Taken
from turnmill.store.schema_name import execute
from turnmill.store.vaults import keys_at, may_be_sealed

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys

#: Nobody finds such a turn due, whoever works out again when its line is.
_NEVER = "'8999-01-01T00:00:00+00'::timestamptz"
_FIRST = "'00000000-0000-0000-0000-000000000000'::uuid"
_LAST = "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid"
_IN_BATCH = f"t.state = 'waiting' AND t.waits_for = '{FOR_BATCH}'"

_FORM = "response_format"

_PARK = f"""
WITH turn AS (
    UPDATE turnmill.turns t SET state = 'waiting', waits_for = '{FOR_BATCH}', native_ref = '',
        available_at = {_NEVER}
    WHERE t.id = ANY(%(ids)s::uuid[]) AND (
        t.state = 'queued' OR {_IN_BATCH} AND t.available_at <> {_NEVER})
    RETURNING t.id, t.session_id
), line AS (
    UPDATE turnmill.sessions s SET head_due_at = NULL
    FROM turn WHERE s.id = turn.session_id AND s.head_turn_id = turn.id
)
SELECT count(*) FROM turn
"""
# Ids rise with time, and turns are made in the order of the lines.
# All that a call needs, as a claim has it: nothing is claimed. A page costs what is on it, however
# many turns and sessions there are: by bounds of its whole key alone no other index has the order,
# and `OFFSET 0` says that each turn's session is looked up, whatever is known of the tables.
_READ = f"""
SELECT t.id, t.session_id, t.native_ref, t.attempt, t.max_attempts, s.provider, s.model,
    s.system_prompt, s.settings::text, s.user_id, t.metadata::text, t.batch_id, t.claims,
    (SELECT json_agg(json_build_array(m.role, m.content, m.position) ORDER BY m.position)::text
    FROM turnmill.messages m WHERE m.turn_id = t.id),
    CASE WHEN s.turns_succeeded > 0 THEN ({HISTORY_OF.format("s.id")}) END,
    t.reply_as, t.max_cost_usd IS NOT NULL OR EXISTS (SELECT FROM turnmill.budgets)
FROM turnmill.turns t CROSS JOIN LATERAL (
    SELECT * FROM turnmill.sessions
    WHERE id = t.session_id AND head_turn_id = t.id AND status = 'active' OFFSET 0
) s
WHERE t.waits_for = '{FOR_BATCH}' AND t.state = 'waiting'
    AND (t.batch_id, t.native_ref, t.id) > (%(batch)s, %(shard)s, %(after)s::uuid)
    AND (t.batch_id, t.native_ref, t.id) <= (%(batch)s, %(shard)s, {_LAST})
    AND (t.parked_until IS NULL OR t.parked_until <= clock_timestamp())
ORDER BY t.batch_id, t.native_ref, t.id LIMIT %(limit)s
"""
# Whoever holds no session of theirs locks turns in the order of their ids: a plan has its own.
_ASSIGN = f"""
WITH mine AS (
    SELECT t.id FROM turnmill.turns t
    WHERE t.id = ANY(%(ids)s::uuid[]) AND {_IN_BATCH} AND t.native_ref = %(was)s
    ORDER BY t.id FOR NO KEY UPDATE
), turn AS (
    UPDATE turnmill.turns t SET native_ref = %(shard)s, parked_until = NULL
    FROM mine WHERE t.id = mine.id
    RETURNING t.id
)
SELECT id FROM turn
"""
_PUT_OFF = f"""
WITH mine AS (
    SELECT t.id FROM turnmill.turns t
    WHERE t.id = ANY(%(ids)s::uuid[]) AND {_IN_BATCH} AND t.native_ref = %(shard)s
    ORDER BY t.id FOR NO KEY UPDATE
)
UPDATE turnmill.turns t SET native_ref = '', parked_until = clock_timestamp() + %(wait)s
FROM mine WHERE t.id = mine.id
"""
_LOCK = """
WITH session AS (
    SELECT s.id FROM turnmill.sessions s
    WHERE s.id IN (SELECT t.session_id FROM turnmill.turns t WHERE t.id = ANY(%(ids)s::uuid[]))
    ORDER BY s.id FOR NO KEY UPDATE
)
SELECT t.id FROM turnmill.turns t
WHERE t.id = ANY(%(ids)s::uuid[]) AND t.native_ref = %(shard)s
    AND t.session_id = ANY(ARRAY(SELECT id FROM session))
ORDER BY t.id FOR NO KEY UPDATE
"""
# Sessions and turns are locked by now: what is read here is newer than the locks.
_TAKE = f"""
WITH session AS (
    UPDATE turnmill.sessions s SET fence = s.fence + 1, head_due_at = NULL
    FROM turnmill.turns t
    WHERE t.id = ANY(%(ids)s::uuid[]) AND s.id = t.session_id AND s.head_turn_id = t.id
        AND {_IN_BATCH} AND t.native_ref = %(shard)s
    RETURNING s.id, t.id AS turn_id, s.fence, s.provider, s.model, s.user_id
), turn AS (
    UPDATE turnmill.turns t SET state = 'running', waits_for = NULL, parked_until = NULL,
        claimed_for = 'send',
        attempt = LEAST(t.attempt + 1, t.max_attempts), claims = t.claims + 1, sent_at = NULL,
        lease_owner = %(owner)s, lease_fence = session.fence,
        lease_until = clock_timestamp() + %(lease)s,
        started_at = COALESCE(t.started_at, %(begun)s, clock_timestamp())
    FROM session WHERE t.id = session.turn_id
    RETURNING t.id, t.session_id, t.lease_fence, t.attempt, t.max_attempts,
        t.claims - t.put_off AS n, t.step, session.provider, session.model, session.user_id,
        t.batch_id,
        t.max_cost_usd IS NOT NULL AS limited
), attempt AS (
    INSERT INTO turnmill.attempts
        (turn_id, fence, n, kind, worker, started_at, step, provider, asked_model)
    SELECT turn.id, turn.lease_fence, turn.n, 'batch', %(owner)s,
        COALESCE(%(begun)s, clock_timestamp()), turn.step, turn.provider, turn.model FROM turn
)
SELECT turn.*, (
    SELECT COALESCE(max(m.position), 0) + 1 FROM turnmill.messages m WHERE m.turn_id = turn.id
), EXISTS (SELECT FROM turnmill.budgets) FROM turn
"""
_IS_LATE = "t.native_ref = %(shard)s AND t.state IN ('cancelled', 'expired')"
_LATE = f"SELECT t.id FROM turnmill.turns t WHERE t.id = ANY(%(ids)s::uuid[]) AND {_IS_LATE}"
# Of turns that have ended there: they stay so, and have one attempt more, that of the vendor.
_TAKE_LATE = f"""
WITH session AS (
    UPDATE turnmill.sessions s SET fence = s.fence + 1
    FROM turnmill.turns t
    WHERE t.id = ANY(%(ids)s::uuid[]) AND s.id = t.session_id AND {_IS_LATE}
    RETURNING s.id, t.id AS turn_id, s.fence, s.provider, s.model, s.user_id
), turn AS (
    UPDATE turnmill.turns t SET native_ref = '', claims = t.claims + 1,
        attempt = LEAST(t.attempt + 1, t.max_attempts),
        started_at = COALESCE(t.started_at, %(begun)s, clock_timestamp())
    FROM session WHERE t.id = session.turn_id
    RETURNING t.id, t.session_id, session.fence, t.attempt, t.max_attempts,
        t.claims - t.put_off AS n, t.step, session.provider, session.model, session.user_id,
        t.batch_id, t.state
), attempt AS (
    INSERT INTO turnmill.attempts
        (turn_id, fence, n, kind, worker, started_at, ended_at, outcome, step, provider,
            asked_model)
    SELECT turn.id, turn.fence, turn.n, 'batch', %(owner)s,
        COALESCE(%(begun)s, clock_timestamp()), clock_timestamp(), turn.state, turn.step,
        turn.provider, turn.model FROM turn
)
SELECT id, session_id, fence, attempt, max_attempts, n, step, provider, model, user_id, batch_id,
    false, 0, EXISTS (SELECT FROM turnmill.budgets) FROM turn
"""
# `OFFSET 0`, as above: each turn's session is looked up, whatever is known of the tables.
_FORMS = f"""
SELECT t.id, t.session_id, s.settings::text, s.user_id
FROM turnmill.turns t CROSS JOIN LATERAL (
    SELECT settings, user_id FROM turnmill.sessions WHERE id = t.session_id OFFSET 0
) s
WHERE t.id = ANY(%(ids)s::uuid[]) AND (strpos(s.settings::text, '{_FORM}') > 0
    OR strpos(s.settings::text, '{SEALED_IN}') > 0)
"""
_LEFT = f"""
SELECT t.id FROM turnmill.turns t WHERE t.waits_for = '{FOR_BATCH}' AND t.state = 'waiting'
    AND (t.batch_id, t.native_ref, t.id) > (%(batch)s, %(shard)s, {_FIRST})
    AND (t.batch_id, t.native_ref, t.id) <= (%(batch)s, %(shard)s, {_LAST})
ORDER BY t.batch_id, t.native_ref, t.id LIMIT %(limit)s
"""


def park(conn: Connection, turn_ids: Sequence[TurnId]) -> int:
    """Let turns wait for a batch of a vendor's; return how many do by now.

    The caller has just accepted or settled them: it holds the locks of their sessions.
    """
    return int(execute(conn, _PARK, {"ids": list(turn_ids)}).scalar_one())


def read_parked(
    conn: Connection, batch_id: BatchId, *, shard: str, after: TurnId | None, limit: int
) -> list[Taken]:
    """Return what is asked by turns of a shard (""; of none), after that one, in their order."""
    parameters = {
        "batch": batch_id,
        "shard": shard,
        "after": after or UUID(int=0),
        "limit": limit,
    }
    keys = keys_at(conn.dialect)
    rows = execute(conn, _READ if keys is None else placed(_READ), parameters).all()
    return [Taken(TurnId(row[0]), SessionId(row[1]), 0, partial(_read, row, keys)) for row in rows]


def assign(conn: Connection, turn_ids: Sequence[TurnId], *, shard: str, was: str = "") -> int:
    """Put parked turns into a shard, and return how many are in it by that."""
    parameters = {"ids": list(turn_ids), "shard": shard, "was": was}
    return len(execute(conn, _ASSIGN, parameters).all())


def put_off(conn: Connection, turn_ids: Sequence[TurnId], *, shard: str, wait: timedelta) -> None:
    """Take turns out of a shard, and park them: none takes them for so long."""
    execute(conn, _PUT_OFF, {"ids": list(turn_ids), "shard": shard, "wait": wait})


def take(
    conn: Connection,
    turn_ids: Sequence[TurnId],
    *,
    shard: str,
    owner: str,
    lease: timedelta,
    begun: datetime | None,
) -> list[Claim]:
    """Take turns out of a shard, to be settled in this transaction; others are not in it."""
    parameters = {
        "ids": list(turn_ids),
        "shard": shard,
        "owner": owner,
        "lease": lease,
        "begun": begun,
    }
    execute(conn, _LOCK, parameters)
    return [_taken(row) for row in execute(conn, _TAKE, parameters).all()]


def late_in(conn: Connection, turn_ids: Sequence[TurnId], *, shard: str) -> list[TurnId]:
    """Return which of these turns were cancelled, or expired, in a shard, and lock them.

    Mostly none was: then nothing is locked.
    """
    found = execute(conn, _LATE, {"ids": list(turn_ids), "shard": shard}).all()
    if not found:
        return []
    parameters = {"ids": [row[0] for row in found], "shard": shard}
    execute(conn, _LOCK, parameters)
    return [TurnId(row[0]) for row in execute(conn, _LATE, parameters)]


def take_late(
    conn: Connection,
    turn_ids: Sequence[TurnId],
    *,
    shard: str,
    owner: str,
    begun: datetime | None,
) -> list[Claim]:
    """Take out of a shard turns of which `late_in` has told; they stay as they have ended."""
    parameters = {"ids": list(turn_ids), "shard": shard, "owner": owner, "begun": begun}
    return [_taken(row) for row in execute(conn, _TAKE_LATE, parameters).all()]


def left_in(conn: Connection, batch_id: BatchId, *, shard: str, limit: int) -> list[TurnId]:
    """Return turns that are still in a shard (""; parked, and in none)."""
    parameters = {"batch": batch_id, "shard": shard, "limit": limit}
    return [TurnId(row[0]) for row in execute(conn, _LEFT, parameters)]


def forms_of(conn: Connection, turn_ids: Sequence[TurnId]) -> dict[TurnId, Mapping[str, Any]]:
    """Return the schema that the replies to these turns have to fit, of those that ask for one."""
    keys = keys_at(conn.dialect)
    found = {
        TurnId(row[0]): _settings_of(row, keys).get(_FORM)
        for row in execute(conn, _FORMS, {"ids": list(turn_ids)})
    }
    return {turn_id: form for turn_id, form in found.items() if isinstance(form, Mapping)}


def _settings_of(row: Any, keys: "DataKeys | None") -> Mapping[str, Any]:
    """Return the settings of a session; none of those that nobody can open any more."""
    found = object_of(lenient_json(row[2]))
    if SEALED_IN not in found:
        return found
    from turnmill.store.opening import opened_object  # noqa: PLC0415  not everybody encrypts

    try:
        return opened_object(keys, row[:2], row[3], "settings", found)
    except (DataKeyMissing, SealBroken):
        return {}


def _read(row: Any, keys: "DataKeys | None") -> Claim:
    prompt, said, history = row[7], lenient_json(row[13]), row[14] or "[]"
    if keys is not None or may_be_sealed(prompt, row[13], history):
        from turnmill.store.opening import opened_claim  # noqa: PLC0415  not everybody encrypts

        prompt, said, history = opened_claim(keys, row[:2], row[9], (prompt, said, history))
    before, messages, behind = said_from(said)
    return Claim(
        turn_id=TurnId(row[0]),
        session_id=SessionId(row[1]),
        fence=0,
        kind="send",
        n=row[12] + 1,
        attempt=row[3] + 1,
        max_attempts=row[4],
        lane=Lane.BULK,
        provider=row[5],
        model=row[6],
        system_prompt=prompt,
        settings=_object_of(row, 8, "settings", keys),
        provider_ref="",
        native_ref=row[2],
        on_ambiguous=OnAmbiguous.RECONCILE,
        metadata=_object_of(row, 10, "metadata", keys),
        messages=messages,
        next_position=behind,
        history=StoredHistory(history),
        user_id=row[9],
        batch_id=row[11],
        before=before,
        reply_as=row[15],
        budgeted=row[16],
    )


def _object_of(row: Any, at: int, column: str, keys: "DataKeys | None") -> dict[str, Any]:
    found = object_of(lenient_json(row[at]))
    if SEALED_IN not in found:
        return found
    from turnmill.store.opening import opened_object  # noqa: PLC0415  as above

    return opened_object(keys, row[:2], row[9], column, found)


def _taken(row: Any) -> Claim:
    (turn_id, session_id, fence, attempt, most, n, step, provider, model, user_id, batch_id) = row[
        :11
    ]
    limited, position, budgeted = row[11:]
    return Claim(
        turn_id=TurnId(turn_id),
        session_id=SessionId(session_id),
        fence=fence,
        kind="send",
        n=n,
        attempt=attempt,
        max_attempts=most,
        lane=Lane.BULK,
        provider=provider,
        model=model,
        system_prompt=None,
        settings={},
        provider_ref="",
        native_ref="",
        on_ambiguous=OnAmbiguous.RETRY,
        metadata={},
        messages=(),
        next_position=position,
        history=None,
        user_id=user_id,
        batch_id=batch_id,
        step=step,
        budgeted=limited or budgeted,
    )
