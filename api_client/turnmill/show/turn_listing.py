"""A turn in one line: what its row says, for people and for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnmill.domain.states import FINAL, TurnState
from turnmill.show.listing import Listing
from turnmill.show.tables import fields
from turnmill.show.wording import cached_share, relative, styled, total_tokens

if TYPE_CHECKING:
    from turnmill.store.records import TurnRecord
    from turnmill.sync.turns import Turn

_COLUMNS = ("id", "state", "accepted", "attempts", "error", "lane", "seq", "session")


def summary(turn: TurnRecord) -> dict[str, Any]:
    """Return what the row of a turn says, as `ls` and `show` have it."""
    used = fields(turn, "input_tokens", "output_tokens", "cached_tokens")
    return {
        **fields(turn, "id", "session_id", "seq", "state"),
        "usage": {
            **used,
            "total_tokens": total_tokens(turn.input_tokens, turn.output_tokens),
            "cached_share": cached_share(turn.cached_tokens, turn.input_tokens),
        },
        **fields(turn, "cost_usd", "finish_reason", "own_history"),
        **fields(turn, "answered_by", "answered_because"),
        "error": _error(turn),
        **fields(
            turn, "lane", "step", "attempt", "max_attempts", "lost", "available_at", "expires_at"
        ),
        **fields(turn, "lease_owner", "lease_until", "cancel_requested", "idempotency_key"),
        **fields(turn, "batch_id", "custom_id", "retry_of", "metadata"),
        **fields(turn, "created_at", "started_at", "finished_at"),
    }


def _error(turn: TurnRecord) -> dict[str, str] | None:
    from turnmill.verbs.reply import no_reply

    if turn.state not in FINAL or turn.state is TurnState.SUCCEEDED:
        return None
    error = no_reply(turn.id, turn.state, turn.error_code)
    return {"code": error.error_code, "kind": error.code, "hint": error.hint}


def _row(turn: Turn) -> tuple[object, ...]:
    record = turn.record
    return (
        record.id,
        styled(record.state),
        relative(record.created_at, now=datetime.now(UTC)),
        f"{record.attempt}/{record.max_attempts}" + (f" +{record.lost}" if record.lost else ""),
        record.error_code,
        record.lane,
        record.seq,
        record.session_id,
    )


TURNS: Listing[Turn] = Listing(
    columns=_COLUMNS,
    row=_row,
    document=lambda turn: summary(turn.record),
    numbers=("seq",),
    spare=_COLUMNS[5:],
)
