"""A turn as its page shows it: what happened to it, and its session's line before and behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from turnmill.domain.errors import TurnNotFound
from turnmill.domain.ids import TurnId
from turnmill.domain.states import SessionStatus
from turnmill.store.nouns.why import Why, why_each
from turnmill.store.schema_name import execute

#: Turns of the line before and behind it.
NEIGHBOURS = 5
#: Attempts, calls of tools and events that are shown, the last ones.
MOST = 200

_TURN = f"""
SELECT t.id, t.session_id, t.seq, t.state, t.lane, t.attempt, t.max_attempts, t.lost,
    t.available_at, t.expires_at, t.lease_owner, t.lease_until, t.cancel_requested, t.batch_id,
    t.batch_line, t.retry_of, t.error_code, t.waits_for, t.finish_reason, t.stream, t.step,
    t.input_tokens, t.output_tokens, t.cached_tokens, t.cost_usd, t.created_at, t.started_at,
    t.finished_at, t.answered_by, t.answered_because, s.provider, s.model,
    s.status AS session_status, s.unfinished,
    (SELECT r.id FROM turnmill.turns r WHERE r.session_id = t.session_id AND r.seq > t.seq
        AND r.retry_of = t.id ORDER BY r.seq DESC LIMIT 1) AS retried_as
FROM turnmill.turns t JOIN turnmill.sessions s ON s.id = t.session_id
WHERE t.id = %(turn)s AND s.status <> '{SessionStatus.DELETED}'
"""
_ATTEMPTS = f"""
SELECT n, fence, step, kind, worker, started_at, ended_at,
    GREATEST(polls - put_off, 0) AS polls, outcome, error_code,
    provider_request_id, provider, model, input_tokens, output_tokens, cached_tokens,
    cache_write_tokens, cost_usd, provider_ms, first_token_ms, estimated
FROM turnmill.attempts WHERE turn_id = %(turn)s ORDER BY fence DESC LIMIT {MOST}
"""
_CALLS = f"""
SELECT position, step, effects, state, approval, runs, error_code, created_at, started_at,
    ended_at, expires_at
FROM turnmill.tool_calls WHERE turn_id = %(turn)s ORDER BY position DESC LIMIT {MOST}
"""
_EVENTS = f"""
SELECT n, kind, at FROM turnmill.events
WHERE session_id = %(session)s AND turn_id = %(turn)s ORDER BY n DESC LIMIT {MOST}
"""
_LINE = f"""
(SELECT id, seq, state, error_code, created_at FROM turnmill.turns
 WHERE session_id = %(session)s AND seq < %(seq)s ORDER BY seq DESC LIMIT {NEIGHBOURS})
UNION ALL
(SELECT id, seq, state, error_code, created_at FROM turnmill.turns
 WHERE session_id = %(session)s AND seq >= %(seq)s ORDER BY seq LIMIT {NEIGHBOURS + 1})
ORDER BY seq
"""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One thing that happened to a turn."""

    at: datetime
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLook:
    """A turn with all that is known of it, but for what was said."""

    turn: Row = field(repr=False)  #: its columns, with provider, model and status of its session
    why: Why
    attempts: Sequence[Row] = field(repr=False)
    calls: Sequence[Row] = field(repr=False)
    events: Sequence[Row] = field(repr=False)
    #: of its session: a few turns before it, itself, and a few behind it
    line: Sequence[Row] = field(repr=False)

    @property
    def timeline(self) -> list[Moment]:
        """Return what happened, in its order."""
        found = [Moment(at=self.turn["created_at"], what="accepted")]
        for one in self.attempts:
            found += _of_attempt(one)
        for one in self.calls:
            found += _of_call(one)
        found += [Moment(at=one["at"], what=one["kind"]) for one in self.events]
        if self.turn["finished_at"] is not None:
            code = self.turn["error_code"] or ""
            found.append(Moment(at=self.turn["finished_at"], what="settled", detail=code))
        return sorted(found, key=lambda one: one.at)


def look_at(conn: Connection, turn_id: UUID) -> TurnLook:
    """Return the turn as it stands; raises TurnNotFound."""
    found = _rows(conn, _TURN, turn=turn_id)
    if not found:
        raise TurnNotFound()
    (turn,) = found
    session = turn["session_id"]
    return TurnLook(
        turn=turn,
        why=why_each(conn, [TurnId(turn_id)], sees_settings=False)[TurnId(turn_id)],
        attempts=_rows(conn, _ATTEMPTS, turn=turn_id)[::-1],
        calls=_rows(conn, _CALLS, turn=turn_id)[::-1],
        events=_rows(conn, _EVENTS, turn=turn_id, session=session)[::-1],
        line=_rows(conn, _LINE, session=session, seq=turn["seq"]),
    )


def _rows(conn: Connection, statement: str, **wanted: Any) -> list[Row]:
    return [
        {name: _plain(value) for name, value in row.items()}
        for row in execute(conn, statement, wanted).mappings()
    ]


def _plain(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _of_attempt(one: Row) -> list[Moment]:
    name = f"attempt {one['n']}" if one["step"] == 1 else f"attempt {one['n']}, step {one['step']}"
    # A claim writes the attempt, and the request leaves at once.
    found = [Moment(at=one["started_at"], what=f"{name} claimed and sent", detail=one["worker"])]
    if one["first_token_ms"] is not None:
        found.append(
            Moment(
                at=one["started_at"] + timedelta(milliseconds=one["first_token_ms"]),
                what=f"{name}: first token",
            )
        )
    if one["ended_at"] is not None:
        ended = " ".join(filter(None, dict.fromkeys((one["outcome"], one["error_code"]))))
        found.append(Moment(at=one["ended_at"], what=f"{name} ended", detail=ended))
    return found


def _of_call(one: Row) -> list[Moment]:
    name = f"tool call {one['position']}"
    found = [Moment(at=one["created_at"], what=f"{name} made", detail=one["effects"])]
    if one["started_at"] is not None:
        found.append(Moment(at=one["started_at"], what=f"{name} begun"))
    if one["ended_at"] is not None:
        said = " ".join(filter(None, (one["state"], one["error_code"])))
        found.append(Moment(at=one["ended_at"], what=f"{name} ended", detail=said))
    return found
