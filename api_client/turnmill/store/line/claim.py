"""Claiming turns: the right to call a provider once, under a lease and a rising fence."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, func, insert, or_, select, update

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.json_values import Unreadable, lenient_json
from turnmill.domain.states import CLAIMABLE, Lane, OnAmbiguous, SessionStatus, TurnState
from turnmill.store.line.backlogs import BACKLOGS
from turnmill.store.line.history import HISTORY_OF, StoredHistory, succeeded_history, text_of
from turnmill.store.line.pauses import LANE, NOT_PAUSED, PROVIDER
from turnmill.store.line.settle import end_unreadable
from turnmill.store.readable import ODD
from turnmill.store.records import Claim
from turnmill.store.schema.tables import attempts, messages, pauses, sessions, sql_list, turns
from turnmill.store.schema_name import execute
from turnmill.store.types import Timestamp, db_after, db_now

#: From this number of losses on, a suspect runs alone.
WORST_SUSPECT = 3

#: Up to so many succeeded turns, a claim brings the history along. Who claims together with a
#: session of thousands would wait for all that was ever said in it.
_SHORT = 100

#: After these, a question is the same attempt as before: it is asked a second time.
_GOES_ON = ("waiting", "unanswered", "released")

_KIND = {TurnState.UNKNOWN: "check", TurnState.WAITING: "resume"}

# What has expired is not run any more, also when no dispatcher has had the time to say so. That
# nothing has, which is the rule, is found once for all heads.
_NOT_OVERDUE = """(
            NOT EXISTS (
                SELECT FROM turnmill.turns WHERE state IN ('queued', 'retrying')
                    AND expires_at <= statement_timestamp()
            ) OR COALESCE((
                SELECT q.expires_at FROM turnmill.turns q
                WHERE q.id = s.head_turn_id AND q.state IN ('queued', 'retrying')
            ), 'infinity') > statement_timestamp()
        )"""

# The head and its due time stand in the session's row, so that after SKIP LOCKED got a newer
# version of it, the conditions are checked again on what is true now.
_BY_IDS = f"""
    SELECT s.id, s.head_turn_id FROM turnmill.turns t
    JOIN turnmill.sessions s ON s.id = t.session_id AND s.head_turn_id = t.id
    WHERE t.id = ANY(%(ids)s::uuid[]) AND s.status = 'active'
        AND s.head_due_at <= statement_timestamp() AND s.head_lane = ANY(%(lanes)s)
        AND {NOT_PAUSED} AND {_NOT_OVERDUE}
    ORDER BY s.id FOR NO KEY UPDATE OF s SKIP LOCKED
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
            AND s.head_due_at <= statement_timestamp() AND {_NOT_OVERDUE}
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
    AND s.head_due_at <= statement_timestamp() AND {NOT_PAUSED} AND {_NOT_OVERDUE}
"""
_CLAIM = f"""
WITH line AS ({{line}}), session AS (
    UPDATE turnmill.sessions s SET fence = s.fence + 1, head_due_at = NULL
    FROM line WHERE s.id = line.id
    RETURNING s.id, s.head_turn_id, s.fence, s.provider, s.model, s.system_prompt,
        s.settings::text AS settings, s.provider_ref, s.on_ambiguous,
        s.turns_succeeded > {_SHORT} AS long
), turn AS (
    UPDATE turnmill.turns t SET
        state = 'running',
        attempt = t.attempt + CASE WHEN t.state IN ('queued', 'retrying') THEN 1 ELSE 0 END,
        claims = t.claims + 1,
        claimed_for = CASE t.state WHEN 'unknown' THEN 'check' WHEN 'waiting' THEN 'resume'
            ELSE 'send' END,
        sent_at = NULL,
        lease_owner = %(owner)s,
        lease_fence = session.fence,
        lease_until = clock_timestamp() + %(lease)s,
        started_at = COALESCE(t.started_at, clock_timestamp())
    FROM session
    WHERE t.id = session.head_turn_id AND t.state IN {sql_list(frozenset(CLAIMABLE))}
    RETURNING t.id, t.session_id, t.lease_fence, t.attempt, t.max_attempts, t.claims, t.lane,
        t.native_ref, t.metadata::text AS metadata, t.claimed_for AS kind,
        CASE WHEN t.claimed_for <> 'send' THEN t.expires_at END AS expires_at
), asked AS (
    UPDATE turnmill.attempts a SET fence = turn.lease_fence, polls = a.polls + 1,
        worker = %(owner)s, ended_at = NULL, outcome = NULL
    FROM turn WHERE turn.kind <> 'send' AND a.turn_id = turn.id
        AND a.fence = (SELECT max(o.fence) FROM turnmill.attempts o WHERE o.turn_id = turn.id)
        AND a.outcome IN {sql_list(_GOES_ON)}
    RETURNING a.turn_id
), attempt AS (
    INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker)
    SELECT id, lease_fence, claims, kind, %(owner)s FROM turn
    WHERE kind = 'send' OR id NOT IN (SELECT turn_id FROM asked)
)
SELECT turn.id, turn.session_id, turn.lease_fence, turn.kind, turn.claims, turn.attempt,
    turn.max_attempts,
    turn.lane, session.provider, session.model, session.system_prompt, session.settings,
    session.provider_ref, turn.native_ref, session.on_ambiguous, turn.metadata,
    (SELECT content::text FROM turnmill.messages m
    WHERE m.turn_id = turn.id AND m.position = 0) AS said,
    CASE WHEN session.provider_ref = '' AND NOT session.long THEN (
        {HISTORY_OF.format("turn.session_id")}
    ) END AS history, session.provider_ref = '' AND session.long,
    CASE WHEN turn.kind <> 'send' THEN clock_timestamp() - (
        SELECT max(a.started_at) FROM turnmill.attempts a
        WHERE a.turn_id = turn.id AND a.kind = 'send'
    ) END AS waited, turn.expires_at - clock_timestamp() AS expires_in
FROM turn JOIN session ON session.id = turn.session_id
"""
_CLAIM_BY_IDS = _CLAIM.format(line=_BY_IDS)
_CLAIM_BY_LANE = _CLAIM.format(line=_BY_LANE)


def claim(
    conn: Connection,
    turn_ids: Sequence[TurnId],
    *,
    owner: str,
    lease: timedelta,
    lanes: Collection[Lane] = (Lane.INTERACTIVE, Lane.BULK),
) -> list[Claim]:
    """Take those of the turns that are ours to run, each for one attempt.

    A turn that is missing from the result is held by another worker, final, not due, paused, or
    behind an unfinished turn of its session: do not call the provider. The lease runs on the
    database's clock. A claim counts as possibly sent from its commit on.
    """
    if conn.dialect.name != "postgresql":
        heads = _heads_by_ids(conn, turn_ids, lanes=lanes)
        return _read(
            conn, [_claim_stepwise(conn, head, owner=owner, lease=lease) for head in heads]
        )
    found = execute(
        conn,
        _CLAIM_BY_IDS,
        {
            "ids": list(turn_ids),
            "lanes": [lane.value for lane in lanes],
            "owner": owner,
            "lease": lease,
        },
    )
    return _read(conn, [_Taken(row[0], row[1], row[2], partial(_from_row, row)) for row in found])


def claim_due(
    conn: Connection,
    lane: Lane,
    *,
    limit: int,
    owner: str,
    lease: timedelta,
) -> list[Claim]:
    """Take up to `limit` due turns of a lane; those of one provider oldest first."""
    if conn.dialect.name != "postgresql":
        heads = _heads_by_lane(conn, lane, limit=limit)
        return _read(
            conn, [_claim_stepwise(conn, head, owner=owner, lease=lease) for head in heads]
        )
    found = execute(
        conn,
        _CLAIM_BY_LANE,
        {
            "lane": lane.value,
            "limit": limit,
            "owner": owner,
            "lease": lease,
        },
    )
    return _read(conn, [_Taken(row[0], row[1], row[2], partial(_from_row, row)) for row in found])


def due_suspicions(conn: Connection) -> set[int]:
    """Return how often the turns due in quarantine were lost (WORST_SUSPECT: so often or more)."""
    return set(execute(conn, _SUSPICIONS, {"worst": WORST_SUSPECT}).scalars())


def claim_suspects(
    conn: Connection, *, lost: int, limit: int, owner: str, lease: timedelta
) -> list[Claim]:
    """Take up to `limit` due turns in quarantine that were lost `lost` times (3: three or more)."""
    if conn.dialect.name != "postgresql":
        return claim_due(conn, Lane.QUARANTINE, limit=limit, owner=owner, lease=lease)
    parameters = {"lost": lost, "worst": WORST_SUSPECT, "limit": limit}
    ids = [TurnId(row[0]) for row in execute(conn, _SUSPECTS, parameters)]
    return claim(conn, ids, owner=owner, lease=lease, lanes=(Lane.QUARANTINE,)) if ids else []


def still_due(
    conn: Connection, turn_ids: Sequence[TurnId], *, lanes: Collection[Lane]
) -> list[TurnId]:
    """Return those of the turns that a claim passed over though they are due: they were locked."""
    if conn.dialect.name != "postgresql":
        return []  # its write lock lets nobody pass over anything
    parameters = {"ids": list(turn_ids), "lanes": [lane.value for lane in lanes]}
    return [TurnId(row[0]) for row in execute(conn, _STILL_DUE, parameters)]


class _Taken(NamedTuple):
    """A turn that is ours now, and what is still to be read of it."""

    turn_id: TurnId
    session_id: SessionId
    fence: int
    read: Callable[[], Claim]


def _read(conn: Connection, taken: Sequence[_Taken]) -> list[Claim]:
    """Return the claims that can be read. The turn of any other has failed then, and says why."""
    claims: list[Claim] = []
    odd: list[_Taken] = []
    for one in taken:
        try:
            claims.append(one.read())
        except ODD:
            odd.append(one)
    if odd:
        end_unreadable(conn, [(one.turn_id, one.session_id, one.fence) for one in odd])
    return claims


def _from_row(row: Any) -> Claim:
    return Claim(
        turn_id=TurnId(row[0]),
        session_id=SessionId(row[1]),
        fence=row[2],
        kind=row[3],
        n=row[4],
        attempt=row[5],
        max_attempts=row[6],
        lane=Lane(row[7]),
        provider=row[8],
        model=row[9],
        system_prompt=row[10],
        settings=_object(lenient_json(row[11])),
        provider_ref=row[12],
        native_ref=row[13],
        on_ambiguous=OnAmbiguous(row[14]),
        metadata=_object(lenient_json(row[15])),
        text=text_of(lenient_json(row[16])),
        history=None if row[18] else StoredHistory(row[17]) if row[17] else [],
        waited=row[19] or timedelta(0),
        expires_in=row[20],
    )


def _object(found: Any) -> dict[str, Any]:
    """Return what settings and metadata are, or raise TypeError."""
    if not isinstance(found, dict) or isinstance(found, Unreadable):
        raise TypeError("not an object")
    return found


def _due_heads() -> Any:
    return (
        select(sessions, turns.c.state, turns.c.id.label("turn_id"))
        .join(turns, turns.c.id == sessions.c.head_turn_id)
        .where(
            sessions.c.status == SessionStatus.ACTIVE,
            sessions.c.head_due_at <= datetime.now(UTC),
            sessions.c.head_lane.not_in(select(pauses.c.name).where(pauses.c.kind == LANE)),
            sessions.c.provider.not_in(select(pauses.c.name).where(pauses.c.kind == PROVIDER)),
            turns.c.state.in_(CLAIMABLE),
            or_(
                turns.c.state.not_in((TurnState.QUEUED, TurnState.RETRYING)),
                turns.c.expires_at.is_(None),
                turns.c.expires_at > datetime.now(UTC),
            ),
        )
    )


def _heads_by_ids(
    conn: Connection, ids: Sequence[TurnId], *, lanes: Collection[Lane]
) -> Sequence[Any]:
    query = _due_heads().where(turns.c.id.in_(ids), sessions.c.head_lane.in_(list(lanes)))
    return conn.execute(query).all()


def _heads_by_lane(conn: Connection, lane: Lane, *, limit: int) -> Sequence[Any]:
    query = _due_heads().where(sessions.c.head_lane == lane)
    return conn.execute(query.order_by(sessions.c.head_due_at).limit(limit)).all()


def _claim_stepwise(conn: Connection, head: Any, *, owner: str, lease: timedelta) -> _Taken:
    kind = _KIND.get(TurnState(head.state), "send")
    fence = head.fence + 1
    conn.execute(
        update(sessions).where(sessions.c.id == head.id).values(fence=fence, head_due_at=None)
    )
    turn = conn.execute(
        update(turns)
        .where(turns.c.id == head.turn_id)
        .values(
            state=TurnState.RUNNING,
            attempt=turns.c.attempt + (1 if kind == "send" else 0),
            claims=turns.c.claims + 1,
            claimed_for=kind,
            sent_at=None,
            lease_owner=owner,
            lease_fence=fence,
            lease_until=db_after(lease.total_seconds()),
            started_at=func.coalesce(turns.c.started_at, db_now()),
        )
        .returning(*turns.c)
    ).one()
    waited = _waited(conn, turn.id) if kind != "send" else timedelta(0)
    _note_attempt(conn, turn, owner=owner)
    return _Taken(turn.id, head.id, fence, partial(_from_rows, conn, head, turn, waited))


def _from_rows(conn: Connection, head: Any, turn: Any, waited: timedelta) -> Claim:
    said = conn.scalar(
        select(messages.c.content).where(messages.c.turn_id == turn.id, messages.c.position == 0)
    )
    return Claim(
        turn_id=TurnId(turn.id),
        session_id=SessionId(head.id),
        fence=turn.lease_fence,
        kind=turn.claimed_for,
        n=turn.claims,
        attempt=turn.attempt,
        max_attempts=turn.max_attempts,
        lane=Lane(turn.lane),
        provider=head.provider,
        model=head.model,
        system_prompt=head.system_prompt,
        settings=_object(head.settings),
        provider_ref=head.provider_ref,
        native_ref=turn.native_ref,
        on_ambiguous=OnAmbiguous(head.on_ambiguous),
        metadata=_object(turn.metadata),
        text=text_of(said),
        history=() if head.provider_ref else succeeded_history(conn, SessionId(head.id)),
        waited=waited,
        expires_in=_left(turn.expires_at) if turn.claimed_for != "send" else None,
    )


def _note_attempt(conn: Connection, turn: Any, *, owner: str) -> None:
    """Begin an attempt, or carry on with the one that a question is about."""
    last = select(func.max(attempts.c.fence)).where(attempts.c.turn_id == turn.id)
    goes_on = (
        update(attempts)
        .where(
            attempts.c.turn_id == turn.id,
            attempts.c.fence == last.scalar_subquery(),
            attempts.c.outcome.in_(_GOES_ON),
        )
        .values(
            fence=turn.lease_fence,
            polls=attempts.c.polls + 1,
            worker=owner,
            ended_at=None,
            outcome=None,
        )
    )
    if turn.claimed_for != "send" and conn.execute(goes_on).rowcount:
        return
    conn.execute(
        insert(attempts).values(
            turn_id=turn.id,
            fence=turn.lease_fence,
            n=turn.claims,
            kind=turn.claimed_for,
            worker=owner,
        )
    )


def _waited(conn: Connection, turn_id: UUID) -> timedelta:
    sent_at = conn.scalar(
        select(func.max(attempts.c.started_at, type_=Timestamp)).where(
            attempts.c.turn_id == turn_id, attempts.c.kind == "send"
        )
    )
    return timedelta(0) if sent_at is None else datetime.now(UTC) - sent_at


def _left(expires_at: datetime | None) -> timedelta | None:
    return None if expires_at is None else expires_at - datetime.now(UTC)
