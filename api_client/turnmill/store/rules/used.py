"""Which calls have used something: those whose price is to be known."""

from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_

from turnmill.domain.voice import SPEAK, TRANSCRIBE

#: Outcomes of a call that was answered.
ANSWERED = ("succeeded", "called")


def has_used(call: Any) -> ColumnElement[bool]:
    """Return which calls have used something; of an unknown number of tokens it is not known.

    What was heard or spoken is counted by seconds or characters, too: it has no tokens then.
    """
    tokens = func.coalesce(call.input_tokens + call.output_tokens, 1) > 0
    aloud = and_(call.kind.in_((TRANSCRIBE, SPEAK)), call.outcome.in_(ANSWERED))
    return or_(tokens, func.coalesce(call.cost_usd, 0) > 0, func.coalesce(aloud, false()))


def unpriced(turn: Any) -> ColumnElement[bool]:
    """Return which turns have used something whose price is not known.

    One that never reached a provider, or was refused there, has used no token.
    """
    tokens = func.coalesce(turn.input_tokens + turn.output_tokens, 1) > 0
    return and_(turn.cost_usd.is_(None), turn.attempt > 0, tokens)


#: The same, of the `turn`s of a statement in SQL.
UNPRICED_SQL = """turn.cost_usd IS NULL AND turn.attempt > 0
            AND COALESCE(turn.input_tokens + turn.output_tokens, 1) > 0"""
