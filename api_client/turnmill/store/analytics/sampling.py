"""Turns that can be asked again: drawn by chance, and left out, with the reason, where they cannot.

A turn is asked again only where rows tell all of what its model was shown. What they do not tell is
why it is left out:

    content_gone      what was said, or a part of what was said before, is no longer there
    fallback          another model than the session's own has answered
    file_gone         a file that was shown is no longer there
    kept_at_vendor    its history began in a vendor's thread, or its prompt is kept there
    session_changed   options of the session were changed since it was made: nobody knows when
    shared            several people talk in the session, or did in that which it was forked from
    spoken            it was heard, or spoken
    tools             its session has tools, which would be called again
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import SessionStatus, TurnState
from turnmill.store.line.copies import is_of_trial
from turnmill.store.nouns.scripted import SCRIPTED
from turnmill.store.schema.file_tables import attachment_uses, attachments
from turnmill.store.schema.people_tables import shared_sessions, turn_senders
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.trial_records import Drawn, Sample
from turnmill.store.vaults import plain_setting

#: So many are drawn for one that is wanted, at the most; the others are left out.
_DRAWN_FOR_ONE = 10
_LEAST_DRAWN = 500
_ASKED_AT_ONCE = 500
_VOICE = ("transcribe", "speak")
#: Settings that make a turn one that cannot be asked again.
_TELLING: Mapping[str, str] = {"tools": "tools", "prompt": "kept_at_vendor"}


def draw(
    conn: Connection, *, since: datetime, until: datetime, template: str | None, count: int
) -> Sample:
    """Draw up to `count` turns that ended in this time with a reply, each as likely as another."""
    ids = list(conn.scalars(_drawn(since, until, template, count)))
    found: list[Drawn] = []
    left_out: Counter[str] = Counter()
    for first in range(0, len(ids), _ASKED_AT_ONCE):
        some = ids[first : first + _ASKED_AT_ONCE]
        rows = {row.id: row for row in conn.execute(_facts(some))}
        for one in some:
            if len(found) == count or one not in rows:
                continue
            reason = _reason(rows[one])
            if reason is None:
                found.append(_of(rows[one]))
            else:
                left_out[reason] += 1
        if len(found) == count:
            break
    return Sample(found, dict(sorted(left_out.items())))


def _drawn(
    since: datetime, until: datetime, template: str | None, count: int
) -> Select[tuple[Any]]:
    query = (
        select(turns.c.id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(
            turns.c.finished_at >= since,
            turns.c.finished_at < until,
            turns.c.state == TurnState.SUCCEEDED,
            func.coalesce(turns.c.finish_reason, "") != SCRIPTED,
            sessions.c.status != SessionStatus.DELETED,
            or_(turns.c.batch_id.is_(None), ~is_of_trial(turns.c.batch_id)),
        )
    )
    if template is not None:
        query = query.where(sessions.c.template == template)
    return query.order_by(func.random()).limit(max(_DRAWN_FOR_ONE * count, _LEAST_DRAWN))


def _facts(ids: Sequence[Any]) -> Select[Any]:
    """Select what decides whether turns can be asked again."""
    earlier = turns.alias("earlier")
    mine = and_(earlier.c.session_id == turns.c.session_id, earlier.c.seq <= turns.c.seq)
    shown = and_(mine, earlier.c.state == TurnState.SUCCEEDED)
    of_file = attachment_uses.c.turn_id == earlier.c.id
    held = attachments.c.id == attachment_uses.c.attachment_id
    return (
        select(
            *(turns.c[name] for name in ("id", "session_id", "input_tokens", "output_tokens")),
            *(turns.c.cost_usd, turns.c.answered_by, turns.c.reply_as),
            *(sessions.c.user_id, sessions.c.settings, sessions.c.version, sessions.c.adopted),
            _any(earlier.c.id, shown, earlier.c.finished_at <= sessions.c.content_gone_until).label(
                "content_gone"
            ),
            _any(shared_sessions.c.session_id, shared_sessions.c.session_id == sessions.c.id).label(
                "shared"
            ),
            _any(turn_senders.c.turn_id, turn_senders.c.session_id == sessions.c.id).label("named"),
            _any(tool_calls.c.turn_id, tool_calls.c.turn_id == earlier.c.id, shown).label(
                "called_tools"
            ),
            _any(
                attempts.c.turn_id, attempts.c.turn_id == turns.c.id, attempts.c.kind.in_(_VOICE)
            ).label("spoken"),
            _any(attachments.c.id, held, of_file, shown, attachments.c.gone_at.is_not(None)).label(
                "file_gone"
            ),
        )
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id.in_(ids))
    )


def _any(what: ColumnElement[Any], *which: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(what).where(*which).correlate(turns, sessions).exists()


def _reason(row: Any) -> str | None:
    """Return why a turn cannot be asked again; None where it can."""
    for name, reason in _TELLING.items():
        if plain_setting(row.settings, name):
            return reason
    if "audio" in (row.reply_as, plain_setting(row.settings, "reply_as")) or row.spoken:
        return "spoken"
    facts = {
        "content_gone": row.content_gone,
        "fallback": row.answered_by is not None,
        "file_gone": row.file_gone,
        "kept_at_vendor": row.adopted is not None,
        "session_changed": row.version > 1,
        "shared": row.shared or row.named,  # a fork of one that is shared holds what others said
        "tools": row.called_tools,
    }
    return next((reason for reason, holds in facts.items() if holds), None)


def _of(row: Any) -> Drawn:
    return Drawn(
        turn_id=TurnId(row.id),
        session_id=SessionId(row.session_id),
        user_id=row.user_id,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=row.cost_usd,
    )
