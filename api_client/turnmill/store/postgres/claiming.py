"""Claiming on Postgres: the head of a line, its lease and all that the call needs at once."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Connection

from turnmill.crypto.envelope import SEALED_IN
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.json_values import lenient_json
from turnmill.domain.states import BETWEEN_STEPS, CLAIMABLE, EventKind, Lane, OnAmbiguous
from turnmill.store.codec import StoredHistory, object_of, said_from
from turnmill.store.postgres.looking import (
    BACKLOGS,
    HISTORY_OF,
    NAMED_IS_DUE,
    NOT_PAUSED,
    placed,
)
from turnmill.store.records import Claim, Taken
from turnmill.store.rules.claiming import GOES_ON, asked_of
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.metadata import sql_list
from turnmill.store.schema.tables import STILL_RUNNING
from turnmill.store.schema_name import execute
from turnmill.store.vaults import keys_at, may_be_sealed

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys

#: From this number of losses on, a suspect runs alone.
WORST_SUSPECT = 3

#: Up to so many succeeded turns, a claim brings the history along. Who claims together with a
#: session of thousands would wait for all that was ever said in it.
_SHORT = 100

# What has expired is not run any more, also when no dispatcher has had the time to say so.
_EXPIRES = "COALESCE({0}.expires_at, 'infinity') <= statement_timestamp()"
_NOT_OVERDUE = f"""NOT ({_EXPIRES.format("t")} AND (t.state || '') IN ('queued', 'retrying'))"""
_HEAD_NOT_OVERDUE = f"""NOT EXISTS (
            SELECT FROM turnmill.turns t WHERE t.id = s.head_turn_id
                AND {_EXPIRES.format("t")} AND (t.state || '') IN ('queued', 'retrying')
        )"""

# The head and its due time stand in the session's row, so that after SKIP LOCKED got a newer
# version of it, the conditions are checked again on what is true now.
_BY_IDS = f"""
    SELECT s.id, s.head_turn_id FROM turnmill.turns t
    JOIN turnmill.sessions s ON s.id = t.session_id AND s.head_turn_id = t.id
    WHERE t.id = ANY(%(ids)s::uuid[]) AND s.status = 'active'
        AND {NAMED_IS_DUE} AND s.head_lane = ANY(%(lanes)s)
        AND {NOT_PAUSED} AND {_NOT_OVERDUE}
    ORDER BY s.id FOR NO KEY UPDATE OF s SKIP LOCKED
"""
# The same of the first so many: those that other workers have taken are passed over.
_BY_IDS_IN_ORDER = f"""
    SELECT s.id, s.head_turn_id FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS named (id, n)
    JOIN turnmill.turns t ON t.id = named.id
    JOIN turnmill.sessions s ON s.id = t.session_id AND s.head_turn_id = t.id
    WHERE s.status = 'active' AND {NAMED_IS_DUE}
        AND s.head_lane = ANY(%(lanes)s) AND {NOT_PAUSED} AND {_NOT_OVERDUE}
    ORDER BY named.n LIMIT %(limit)s FOR NO KEY UPDATE OF s SKIP LOCKED
"""
# The providers in an order of chance: a batch for one of them does not wait for another one's.
# A lock returns the newest version of a row. Where the line has moved since this statement's
# snapshot, the answer before the new head would be missing from its history: passed over.
_BY_LANE = f"""
    SELECT s.id, s.head_turn_id FROM (
        SELECT s.provider FROM ({BACKLOGS}) AS s
        WHERE s.head_lane = %(lane)s AND {NOT_PAUSED} ORDER BY random()
    ) AS open CROSS JOIN LATERAL (
        SELECT s.id, s.head_turn_id, s.fence FROM turnmill.sessions s
        WHERE s.head_lane = %(lane)s AND s.provider = open.provider AND s.status = 'active'
            AND s.head_due_at <= statement_timestamp() AND {_HEAD_NOT_OVERDUE}
        ORDER BY s.head_due_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
    ) AS s JOIN turnmill.sessions seen
        ON seen.id = s.id AND seen.head_turn_id = s.head_turn_id AND seen.fence = s.fence
    LIMIT %(limit)s
"""
_SUSPECTS = f"""
SELECT t.id FROM turnmill.sessions s JOIN turnmill.turns t ON t.id = s.head_turn_id
WHERE s.head_lane = 'quarantine' AND s.status = 'active' AND {NOT_PAUSED}
    AND s.head_due_at <= statement_timestamp() AND LEAST(t.lost, %(worst)s) = %(lost)s
ORDER BY s.head_due_at LIMIT %(limit)s
"""
_SUSPICIONS = f"""
SELECT DISTINCT LEAST(t.lost, %(worst)s) FROM turnmill.sessions s
JOIN turnmill.turns t ON t.id = s.head_turn_id
WHERE s.head_lane = 'quarantine' AND s.status = 'active' AND {NOT_PAUSED}
    AND s.head_due_at <= statement_timestamp()
"""
_STILL_DUE = f"""
SELECT t.id FROM turnmill.turns t
JOIN turnmill.sessions s ON s.id = t.session_id AND s.head_turn_id = t.id
WHERE t.id = ANY(%(ids)s::uuid[]) AND s.status = 'active' AND s.head_lane = ANY(%(lanes)s)
    AND {NAMED_IS_DUE} AND {NOT_PAUSED} AND {_NOT_OVERDUE}
"""
# A turn that waits for what its vendor does, and not, between two steps, for somebody of ours.
_NO_STEP = f"(t.waits_for IS NULL OR t.waits_for NOT IN {sql_list(BETWEEN_STEPS)})"
# Who is asked: the session's own, or the target that the turn goes on with.
_ASKED = """CASE WHEN turn.target = 0 THEN turn.{0} ELSE COALESCE(
            turn.settings::jsonb -> 'fallback' -> (turn.target - 1) ->> '{0}', turn.{0}
        ) END"""
_CLAIM = f"""
WITH line AS ({{line}}), session AS (
    UPDATE turnmill.sessions s SET fence = s.fence + 1, head_due_at = NULL{{counted}}
    FROM line WHERE s.id = line.id
    RETURNING s.id, s.head_turn_id, s.fence, s.provider, s.model, s.system_prompt,
        s.settings::text AS settings, s.provider_ref, s.on_ambiguous, s.user_id, s.adopted,
        s.turns_succeeded > {_SHORT} AS long{{numbered}}
), turn AS (
    UPDATE turnmill.turns t SET
        state = 'running',
        attempt = t.attempt + CASE WHEN t.state IN ('queued', 'retrying') THEN 1 ELSE 0 END,
        claims = t.claims + 1,
        claimed_for = CASE WHEN t.state = 'unknown' THEN 'check'
            WHEN t.state = 'waiting' AND {_NO_STEP} THEN 'resume' ELSE 'send' END,
        sent_at = NULL,
        lease_owner = %(owner)s,
        lease_fence = session.fence,
        lease_until = clock_timestamp() + %(lease)s,
        started_at = COALESCE(t.started_at, clock_timestamp())
    FROM session
    WHERE t.id = session.head_turn_id AND (t.state || '') IN {sql_list(frozenset(CLAIMABLE))}
    RETURNING t.id, t.session_id, t.lease_fence, t.attempt, t.max_attempts,
        session.provider, session.model, session.system_prompt, session.settings,
        session.provider_ref, session.on_ambiguous, session.user_id, session.adopted, session.long,
        t.claims - t.put_off AS claims, t.lane,
        t.native_ref, t.batch_id, t.stream, t.step, t.step_ref, t.error_code, t.waits_for,
        t.target, t.benched, t.given_up, t.answered_because, t.reply_as,
        t.metadata::text AS metadata, t.claimed_for AS kind,
        t.claimed_for <> 'send' OR t.waits_for IS NOT NULL AS goes_on,
        CASE WHEN t.claimed_for <> 'send' THEN t.expires_at END AS expires_at,
        t.max_cost_usd IS NOT NULL AS limited
), asked AS (
    UPDATE turnmill.attempts a SET fence = turn.lease_fence, polls = a.polls + 1,
        worker = %(owner)s, ended_at = NULL, outcome = NULL
    FROM turn WHERE turn.goes_on AND a.turn_id = turn.id
        AND a.fence = (SELECT max(o.fence) FROM turnmill.attempts o WHERE o.turn_id = turn.id)
        AND a.outcome IN {sql_list(GOES_ON)}
    RETURNING a.turn_id
), attempt AS (
    INSERT INTO turnmill.attempts
        (turn_id, fence, n, kind, worker, step, provider, asked_model)
    SELECT turn.id, turn.lease_fence, turn.claims, turn.kind, %(owner)s, turn.step,
        {_ASKED.format("provider")}, {_ASKED.format("model")}
    FROM turn
    WHERE NOT turn.goes_on OR turn.id NOT IN (SELECT turn_id FROM asked)
){{told}}
SELECT turn.id, turn.session_id, turn.lease_fence, turn.kind, turn.claims, turn.attempt,
    turn.max_attempts,
    turn.lane, turn.provider, turn.model, turn.system_prompt, turn.settings,
    turn.provider_ref, turn.native_ref, turn.on_ambiguous, turn.metadata,
    (SELECT json_agg(json_build_array(m.role, m.content, m.position) ORDER BY m.position)::text
    FROM turnmill.messages m WHERE m.turn_id = turn.id) AS said,
    CASE WHEN turn.provider_ref = '' AND NOT turn.long THEN (
        {HISTORY_OF.format("turn.session_id")}
    ) END AS history, turn.provider_ref = '' AND turn.long,
    CASE WHEN turn.kind <> 'send' THEN clock_timestamp() - (
        SELECT max(a.started_at) FROM turnmill.attempts a
        WHERE a.turn_id = turn.id AND a.kind = 'send'
    ) END AS waited, turn.expires_at - clock_timestamp() AS expires_in,
    turn.user_id, turn.batch_id, turn.stream, turn.step, turn.step_ref,
    turn.kind <> 'send' AND COALESCE((
        SELECT a.estimated FROM turnmill.attempts a
        WHERE a.turn_id = turn.id AND a.kind = 'send' ORDER BY a.fence DESC LIMIT 1
    ), false),
    turn.error_code, turn.adopted, turn.waits_for,
    turn.target, turn.benched, turn.given_up, turn.answered_because,
    CASE WHEN turn.kind <> 'send' AND turn.target > 0 THEN (
        SELECT ARRAY[a.provider, a.asked_model] FROM turnmill.attempts a
        WHERE a.turn_id = turn.id AND a.kind = 'send' ORDER BY a.fence DESC LIMIT 1
    ) END,
    turn.limited OR EXISTS (SELECT FROM turnmill.budgets), turn.reply_as
FROM turn
"""
# Where somebody wants to hear of it: a turn is started once, however often it is claimed.
_FIRST = """(
        SELECT o.started_at IS NULL FROM turnmill.turns o WHERE o.id = s.head_turn_id
    )"""
_TOLD = {
    "counted": f", events = s.events + CASE WHEN {_FIRST} THEN 1 ELSE 0 END",
    "numbered": f", s.events, {_FIRST} AS first",
    "told": f""", told AS (
    INSERT INTO turnmill.events (session_id, n, turn_id, kind, at)
    SELECT id, events, head_turn_id, '{EventKind.STARTED}', clock_timestamp()
    FROM session WHERE first
)""",
}


def _claiming(line: str) -> Mapping[bool, str]:
    """Return the statement that claims a line, by whether it tells that turns start."""
    quiet = dict.fromkeys(_TOLD, "")
    return {told: _CLAIM.format(line=line, **(_TOLD if told else quiet)) for told in (False, True)}


_CLAIM_BY_IDS = _claiming(_BY_IDS)
_CLAIM_IN_ORDER = _claiming(_BY_IDS_IN_ORDER)
_CLAIM_BY_LANE = _claiming(_BY_LANE)
_EXTEND = f"""
WITH mine AS (
    SELECT t.id FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS held (id, fence)
    JOIN turnmill.turns t ON t.id = held.id AND t.lease_fence = held.fence AND {STILL_RUNNING}
    ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
), extended AS (
    UPDATE turnmill.turns t SET lease_until = clock_timestamp() + %(lease)s FROM mine
    WHERE t.id = mine.id
    RETURNING t.id, t.cancel_requested
)
SELECT id, cancel_requested FROM extended
"""


def claim(
    conn: Connection,
    turn_ids: Sequence[TurnId],
    *,
    owner: str,
    lease: timedelta,
    lanes: Collection[Lane],
    limit: int | None,
) -> list[Taken]:
    """Take those of the turns that are due heads in these lanes, the first ones of them."""
    parameters = {
        "ids": list(turn_ids),
        "lanes": [lane.value for lane in lanes],
        "owner": owner,
        "lease": lease,
        "limit": limit,
    }
    statement = _CLAIM_BY_IDS if limit is None else _CLAIM_IN_ORDER
    return _claimed(conn, statement, parameters)


def claim_due(
    conn: Connection, lane: Lane, *, limit: int, owner: str, lease: timedelta
) -> list[Taken]:
    """Take due heads of a lane, those of one provider oldest first."""
    parameters = {"lane": lane.value, "limit": limit, "owner": owner, "lease": lease}
    return _claimed(conn, _CLAIM_BY_LANE, parameters)


def claim_suspects(
    conn: Connection, *, lost: int, limit: int, owner: str, lease: timedelta
) -> list[Taken]:
    """Take due heads in quarantine that were lost so often."""
    parameters = {"lost": lost, "worst": WORST_SUSPECT, "limit": limit}
    ids = [TurnId(row[0]) for row in execute(conn, _SUSPECTS, parameters)]
    if not ids:
        return []
    return claim(conn, ids, owner=owner, lease=lease, lanes=(Lane.QUARANTINE,), limit=None)


def due_suspicions(conn: Connection) -> set[int]:
    """Return how often the turns due in quarantine were lost."""
    return set(execute(conn, _SUSPICIONS, {"worst": WORST_SUSPECT}).scalars())


def still_due(
    conn: Connection, turn_ids: Sequence[TurnId], *, lanes: Collection[Lane]
) -> list[TurnId]:
    """Return those that are due and were passed over, because somebody had locked them."""
    parameters = {"ids": list(turn_ids), "lanes": [lane.value for lane in lanes]}
    return [TurnId(row[0]) for row in execute(conn, _STILL_DUE, parameters)]


def extend(
    conn: Connection, held: Sequence[tuple[TurnId, int]], *, lease: timedelta
) -> list[tuple[TurnId, bool]]:
    """Extend leases that are held, and tell of each whether a cancel was asked for."""
    parameters = {
        "ids": [turn_id for turn_id, _ in held],
        "fences": [fence for _, fence in held],
        "lease": lease,
    }
    return [(TurnId(row[0]), row[1]) for row in execute(conn, _EXTEND, parameters)]


def _claimed(conn: Connection, told: Mapping[bool, str], parameters: Any) -> list[Taken]:
    """Run a claim; what is encrypted needs to be told where it stands."""
    keys = keys_at(conn.dialect)
    statement = told[_is_told(conn)]
    rows = execute(conn, statement if keys is None else placed(statement), parameters)
    return [
        Taken(TurnId(row[0]), SessionId(row[1]), row[2], partial(_from_row, row, keys))
        for row in rows
    ]


def _is_told(conn: Connection) -> bool:
    return is_wanted(conn, EventKind.STARTED)


def _from_row(row: Any, keys: "DataKeys | None") -> Claim:
    # In the order of the statement.
    turn_id, session_id, fence, kind, n, attempt, max_attempts, lane = row[:8]
    provider, model, prompt, settings, provider_ref, native_ref, ambiguous, metadata = row[8:16]
    said, history, is_long, waited, expires_in, user_id, batch_id, stream = row[16:24]
    step, step_ref, estimated, error_code, adopted = row[24:29]
    ids = (turn_id, session_id)
    prompt, said, history = _content_of(ids, user_id, (prompt, said, history or "[]"), keys)
    before, messages, behind = said_from(said)
    return Claim(
        turn_id=TurnId(turn_id),
        session_id=SessionId(session_id),
        fence=fence,
        kind=kind,
        n=n,
        attempt=attempt,
        max_attempts=max_attempts,
        lane=Lane(lane),
        provider=provider,
        model=model,
        system_prompt=prompt,
        settings=_object_of(ids, user_id, "settings", settings, keys),
        provider_ref=provider_ref,
        native_ref=native_ref,
        on_ambiguous=OnAmbiguous(ambiguous),
        metadata=_object_of(ids, user_id, "metadata", metadata, keys),
        messages=messages,
        next_position=behind,
        history=None if is_long else StoredHistory(history),
        waited=waited or timedelta(0),
        expires_in=expires_in,
        user_id=user_id,
        batch_id=batch_id,
        stream=stream,
        step=step,
        step_ref=step_ref,
        estimated=estimated,
        error_code=error_code,
        adopted=adopted,
        before=before,
        **_goes_on(row),
    )


def _goes_on(row: Any) -> dict[str, Any]:
    """Return what the turn has come to by now: whom it asks, why, and what bounds it."""
    waits_for, target, benched, given_up, because, asked, budgeted, reply_as = row[29:]
    return {
        "waits_for": waits_for,
        "target": target,
        "benched": benched,
        "given_up": given_up,
        "because": because,
        "asked_of": asked_of(asked),
        "budgeted": budgeted,
        "reply_as": reply_as,
    }


def _content_of(
    ids: tuple[UUID, UUID],
    user_id: str,
    brought: tuple[str | None, str, str],
    keys: "DataKeys | None",
) -> tuple[str | None, Any, str]:
    """Return the prompt, what was said and the history, opened where they are sealed."""
    prompt, raw, history = brought
    said = lenient_json(raw)
    if keys is None and not may_be_sealed(prompt, raw, history):
        return prompt, said, history
    from turnmill.store.opening import opened_claim  # noqa: PLC0415  not everybody encrypts

    return opened_claim(keys, ids, user_id, (prompt, said, history))


def _object_of(
    ids: tuple[UUID, UUID], user_id: str, column: str, said: Any, keys: "DataKeys | None"
) -> dict[str, Any]:
    found = object_of(lenient_json(said))
    if SEALED_IN not in found:
        return found
    from turnmill.store.opening import opened_object  # noqa: PLC0415  as above

    return opened_object(keys, ids, user_id, column, found)
