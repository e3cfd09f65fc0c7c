"""A turn in one line: what its row says, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnmill.domain.states import FINAL, TurnState
from turnmill.show.listing import Listing
from turnmill.show.tables import fields
from turnmill.show.why_view import in_a_cell, waiting
from turnmill.show.wording import cached_share, relative, styled, total_tokens

if TYPE_CHECKING:
    from uuid import UUID

    from turnmill.store.nouns.why import Why
    from turnmill.store.turn_records import TurnRecord
    from turnmill.sync.client import Client

_COLUMNS = (
    *("id", "state", "waits for", "accepted", "attempts", "error"),
    *("lane", "seq", "session"),
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A turn of a page."""

    record: TurnRecord
    why: Why | None  #: None: it is final

    @property
    def id(self) -> UUID:
        """By which the listing goes on."""
        return self.record.id


def read_page(client: Client, **wanted: Any) -> list[Listed]:
    """Return a page of `client.turns.list`, and what each turn of it waits for."""
    records = [turn.record for turn in client.turns.list(**wanted)]
    open_ids = [one.id for one in records if one.state not in FINAL]
    reasons = client.turns.why(open_ids) if open_ids else {}
    return [Listed(one, reasons.get(one.id)) for one in records]


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


def hint_of(turn: TurnRecord) -> str | None:
    """Return what can be done about a turn that has failed, where its code says it."""
    from turnmill.domain.errors.remedies import REMEDIES

    error = _error(turn)
    return error["hint"] if error is not None and turn.error_code in REMEDIES else None


def _row(listed: Listed) -> tuple[object, ...]:
    record = listed.record
    return (
        record.id,
        styled(record.state),
        in_a_cell(listed.why),
        relative(record.created_at, now=datetime.now(UTC)),
        f"{record.attempt}/{record.max_attempts}" + (f" +{record.lost}" if record.lost else ""),
        record.error_code,
        record.lane,
        record.seq,
        record.session_id,
    )


TURNS: Listing[Listed] = Listing(
    columns=_COLUMNS,
    row=_row,
    document=lambda one: {**summary(one.record), **waiting(one.why)},
    numbers=("seq",),
    spare=("waits for", "error", "accepted", "attempts", *_COLUMNS[6:]),
)
