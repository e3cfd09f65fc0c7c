"""The tables: their names and constraints are the contract, and make the promises physical."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    literal_column,
    text,
)

from turnmill.domain.batches import BatchMode, BatchState
from turnmill.domain.states import (
    FOR_BATCH,
    UNFINISHED,
    Lane,
    OnAmbiguous,
    OnFailure,
    SessionStatus,
    TurnState,
)
from turnmill.store.dollars import Dollars
from turnmill.store.schema.bounds import bounded, one_of, unique_where_given
from turnmill.store.schema.metadata import metadata as metadata
from turnmill.store.schema.metadata import sql_list
from turnmill.store.sealed_types import (
    ERROR_DETAIL,
    MESSAGE,
    METADATA_OF_SESSION,
    METADATA_OF_TURN,
    SETTINGS,
    SETTINGS_OF_BATCH,
    SYSTEM_PROMPT,
)
from turnmill.store.types import Json, Timestamp, Word, db_now

UNFINISHED_SQL = f"state IN {sql_list(frozenset(UNFINISHED))}"
RUNNING_SQL = f"state = '{TurnState.RUNNING}'"
#: The same for turns `t` that are found by their ids. The planner must not see that it is the same:
#: statistics from a quiet hour tell it that the index of running turns is empty, and it would read
#: all of it to find one.
STILL_RUNNING = f"(t.state || '') = '{TurnState.RUNNING}'"

#: Heads that may be run, where they are looked for user by user. What looks for the oldest must not
#: take that index for its own, nor the other way round: to a planner whose statistics are from a
#: quiet hour all indexes of what waits are empty, and one as good as the other.
OPEN_OF_USERS = "head_due_at IS NOT NULL AND (status || '') = 'active'"

#: What ends when its time is over; for the same reason not in the words of what waits.
EXPIRING_SQL = "expires_at IS NOT NULL AND (state || '') IN ('queued', 'retrying')"

# The tables that every turn updates keep room on their pages, so that most updates stay there.
_ROOMY: dict[str, Any] = {"postgresql_with": {"fillfactor": "80"}}


sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("key", Text),
    Column("user_id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("status", Word, nullable=False, server_default=SessionStatus.ACTIVE),
    Column("system_prompt", SYSTEM_PROMPT),
    Column("settings", SETTINGS, nullable=False, server_default=text("'{}'")),
    Column("metadata", METADATA_OF_SESSION, nullable=False, server_default=text("'{}'")),
    Column("provider_ref", Text, nullable=False, server_default=""),
    Column("adopted", Text),  # the vendor's thread that it goes on with; NULL: it began its own
    Column("on_failure", Text, nullable=False, server_default=OnFailure.CONTINUE),
    Column("on_ambiguous", Text, nullable=False, server_default=OnAmbiguous.RECONCILE),
    Column("max_attempts", Integer, nullable=False, server_default="5"),
    Column("idle_seconds", BigInteger),
    Column("version", BigInteger, nullable=False, server_default="1"),  # one more with each update
    Column("forked_from", Uuid),  # the session whose history it began with; NULL: none
    # For how long what was said is kept; NULL: as its user's. Nothing that is left ended before
    # `content_from` (NULL: `created_at`); nothing is left of what ended by `content_gone_until`.
    Column("content_seconds", BigInteger),
    Column("content_from", Timestamp),
    Column("content_gone_until", Timestamp),
    # The line of the session. Every move of a turn holds this row's lock and leaves these true.
    Column("next_seq", BigInteger, nullable=False, server_default="1"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("events", BigInteger, nullable=False, server_default="0"),  # the number of the last
    Column("unfinished", Integer, nullable=False, server_default="0"),
    Column("head_turn_id", Uuid),
    Column("head_lane", Text),
    Column("head_due_at", Timestamp),  # NULL: nothing to announce (none, running, or held)
    # Totals of all attempts.
    Column("turns_succeeded", BigInteger, nullable=False, server_default="0"),
    Column("turns_failed", BigInteger, nullable=False, server_default="0"),
    Column("input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cost_usd", Dollars(), nullable=False, server_default="0"),
    Column("unpriced_attempts", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("last_active_at", Timestamp, nullable=False, server_default=db_now()),
    Column("archived_at", Timestamp),
    Column("template", Text),  # that it was made from, once; NULL: from none
    Column("template_version", Integer),
    Column("key_id", Text),  # the caller's own key that wraps its data key; NULL: the house's
    one_of("status", SessionStatus),
    one_of("on_failure", OnFailure),
    one_of("on_ambiguous", OnAmbiguous),
    CheckConstraint("unfinished >= 0", name="unfinished_counts"),
    bounded("sessions"),
    CheckConstraint("(unfinished = 0) = (head_turn_id IS NULL)", name="head_stands_for_line"),
    **_ROOMY,
)
unique_where_given("uq_sessions_keyed", sessions.c.key, given=sessions.c.key)
Index("ix_sessions_user_id", sessions.c.user_id, sessions.c.id)
# A conversation changes with what is said in it, so it is one session's alone.
_ONE_SESSION = text("substr(adopted, 1, 5) = 'conv_' AND status IN ('active', 'paused')")
Index(
    "uq_sessions_adopted",
    sessions.c.provider,
    sessions.c.adopted,
    unique=True,
    postgresql_where=_ONE_SESSION,
    sqlite_where=_ONE_SESSION,
)
Index(
    "ix_sessions_due",
    sessions.c.head_lane,
    sessions.c.provider,
    sessions.c.head_due_at,
    postgresql_where=text("head_due_at IS NOT NULL AND status = 'active'"),
    sqlite_where=text("head_due_at IS NOT NULL AND status = 'active'"),
)
# The same for each user: from one to the next it takes one step, whatever waits of either.
Index(
    "ix_sessions_users_due",
    sessions.c.head_lane,
    sessions.c.provider,
    sessions.c.user_id,
    sessions.c.head_due_at,
    postgresql_where=text(OPEN_OF_USERS),
    sqlite_where=text(OPEN_OF_USERS),
)
Index(
    "ix_sessions_unfinished",
    sessions.c.user_id,
    postgresql_where=text("unfinished > 0"),
    sqlite_where=text("unfinished > 0"),
)
Index(
    "ix_sessions_deleted",
    sessions.c.id,
    postgresql_where=text("status = 'deleted'"),
    sqlite_where=text("status = 'deleted'"),
)
# Busy sessions are not in it, so that it costs a turn one entry, and not one a move.
Index(
    "ix_sessions_idle",
    sessions.c.idle_seconds,
    sessions.c.last_active_at,
    postgresql_where=text("status = 'active' AND unfinished = 0"),
    sqlite_where=text("status = 'active' AND unfinished = 0"),
)
Index(
    "ix_sessions_archived_at",
    sessions.c.archived_at,
    postgresql_where=text("archived_at IS NOT NULL"),
    sqlite_where=text("archived_at IS NOT NULL"),
)

turns = Table(
    "turns",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("state", Word, nullable=False, server_default=TurnState.QUEUED),
    Column("lane", Text, nullable=False, server_default=Lane.INTERACTIVE),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column("claims", Integer, nullable=False, server_default="0"),
    Column("put_off", Integer, nullable=False, server_default="0"),  # claims that came to no call
    Column("claimed_for", Text),  # of the last claim: send, check or resume
    Column("lost", Integer, nullable=False, server_default="0"),
    Column("available_at", Timestamp, nullable=False, server_default=db_now()),
    Column("expires_at", Timestamp),
    Column("lease_owner", Text),
    Column("lease_fence", BigInteger),
    Column("lease_until", Timestamp),
    Column("sent_at", Timestamp),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("native_ref", Text, nullable=False, server_default=""),
    Column("idempotency_key", Text),
    Column("idempotency_hash", LargeBinary),
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="SET NULL")),
    Column("batch_line", BigInteger),
    Column("custom_id", Text),
    Column("retry_of", Uuid),
    Column("metadata", METADATA_OF_TURN, nullable=False, server_default=text("'{}'")),
    Column("error_code", Text),
    Column("waits_for", Text),  # NULL: for nothing that a layer, or a step, named
    Column("parked_until", Timestamp),  # no vendor's batch takes it before: no budget has room
    Column("stream", Boolean, nullable=False, server_default=false()),  # readers may watch it
    Column("step", Integer, nullable=False, server_default="1"),  # the model call it stands at
    Column("step_ref", Text, nullable=False, server_default=""),  # the thread as the last step left
    Column("keep_partial", Boolean, nullable=False, server_default=false()),  # when it is cancelled
    Column("max_cost_usd", Dollars()),  # of all its attempts; NULL: no limit of its own
    Column("reply_as", Text),  # text or audio; NULL: as the session's settings say
    Column("finish_reason", Text),
    Column("own_history", Text),  # why it was asked without its vendor's thread; NULL: it was not
    # Of the session's targets, by number; 0 is its own provider and model. See `domain.targets`.
    Column("target", Integer, nullable=False, server_default="0"),  # of the next, or last, attempt
    Column("benched", Integer, nullable=False, server_default="0"),  # bits: failed in this round
    Column("given_up", Integer, nullable=False, server_default="0"),  # bits: not asked any more
    Column("answered_by", Text),  # "provider/model"; NULL: nobody, or the session's own
    Column("answered_because", Text),  # the code for which the session's own was passed over
    # NULL: unknown. What is unknown in one attempt is so in its turn; a session sums what is known.
    Column("input_tokens", BigInteger, server_default="0"),
    Column("output_tokens", BigInteger, server_default="0"),
    Column("cached_tokens", BigInteger, server_default="0"),
    Column("cost_usd", Dollars()),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("started_at", Timestamp),
    Column("finished_at", Timestamp),
    UniqueConstraint("session_id", "seq"),
    one_of("state", TurnState),
    one_of("lane", Lane),
    CheckConstraint(f"({RUNNING_SQL}) = (lease_owner IS NOT NULL)", name="running_is_leased"),
    CheckConstraint("(lease_owner IS NULL) = (lease_until IS NULL)", name="lease_has_end"),
    CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name="attempts_finite"),
    CheckConstraint("lost >= 0 AND lost <= 8", name="losses_finite"),
    bounded("turns"),
    **_ROOMY,
)
unique_where_given(
    "uq_turns_keyed", turns.c.session_id, turns.c.idempotency_key, given=turns.c.idempotency_key
)
unique_where_given(
    "uq_turns_of_batch", turns.c.batch_id, turns.c.batch_line, given=turns.c.batch_id
)
Index(
    "uq_turns_one_running",
    turns.c.session_id,
    unique=True,
    postgresql_where=text(RUNNING_SQL),
    sqlite_where=text(RUNNING_SQL),
)
Index(
    "ix_turns_line",
    turns.c.session_id,
    turns.c.seq,
    postgresql_where=text(UNFINISHED_SQL),
    sqlite_where=text(UNFINISHED_SQL),
)
Index(
    "ix_turns_lease",
    turns.c.lease_until,
    postgresql_where=text(RUNNING_SQL),
    sqlite_where=text(RUNNING_SQL),
)
Index(
    "ix_turns_overdue",
    turns.c.expires_at,
    postgresql_where=text(EXPIRING_SQL),
    sqlite_where=text(EXPIRING_SQL),
)
Index("ix_turns_finished_at", turns.c.finished_at, postgresql_using="brin")
Index(
    "ix_turns_failed",
    turns.c.id,
    postgresql_where=text("state IN ('dead', 'failed')"),
    sqlite_where=text("state IN ('dead', 'failed')"),
)


#: What waits for a batch of a vendor's, written out as it stands in the index's condition.
IN_BATCH: ColumnElement[str] = literal_column(f"'{FOR_BATCH}'", Text())


messages = Table(
    "messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("session_id", Uuid, nullable=False),  # goes with its turn: checking it too costs 6 µs
    Column("turn_id", Uuid, ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", MESSAGE, nullable=False),  # [{"type": "text", "text": "…"}], or that sealed
    Column("final", Boolean, nullable=False, server_default=false()),
    Column("partial", Boolean, nullable=False, server_default=false()),  # of a cancelled turn
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    UniqueConstraint("turn_id", "position"),
    CheckConstraint("role IN ('user', 'assistant', 'tool', 'system')", name="role_known"),
)
Index(
    "uq_messages_one_reply",
    messages.c.turn_id,
    unique=True,
    postgresql_where=text("final"),
    sqlite_where=text("final"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("turn_id", Uuid, ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("n", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("started_at", Timestamp, nullable=False, server_default=db_now()),
    Column("ended_at", Timestamp),
    Column("polls", Integer, nullable=False, server_default="0"),  # later claims of it
    Column("put_off", Integer, nullable=False, server_default="0"),  # claims that came to no call
    Column("outcome", Text),
    Column("error_code", Text),
    Column("error_detail", ERROR_DETAIL),
    Column("provider_request_id", Text),
    Column("provider", Text),  # that was asked; NULL, as of before: the session's own
    Column("asked_model", Text),  # as it was asked for; NULL: as the session does
    Column("model", Text),  # that answered
    Column("input_tokens", BigInteger, server_default="0"),
    Column("output_tokens", BigInteger, server_default="0"),
    Column("cached_tokens", BigInteger, server_default="0"),
    Column("cache_write_tokens", BigInteger),  # NULL until a verdict says it
    Column("cache_write_1h_tokens", BigInteger),  # of those; NULL: older than the column, too
    Column("cost_usd", Dollars()),
    Column("provider_ms", Integer),
    Column("step", Integer, nullable=False, server_default="1"),
    Column("first_token_ms", Integer),  # NULL: it was not streamed, or nothing came
    Column("estimated", Boolean, nullable=False, server_default=false()),  # ours: it was cut
    Column("usage", Json),  # [{…}]: of each call, what the vendor says of it; figures and no words
    Column("service_tier", Text),  # in which it was served; NULL: the vendor does not say
    Column("priced_by", Text),  # the list that the cost is by, and its name of the model
    PrimaryKeyConstraint("turn_id", "fence"),
    CheckConstraint(
        "kind IN ('send', 'check', 'resume', 'transcribe', 'speak', 'batch')", name="kind_known"
    ),
    CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="ended_has_outcome"),
)

# Nothing of a batch runs before it is sealed: see `batch_tables`.
batches = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("state", Word, nullable=False, server_default=BatchState.SUBMITTING),
    Column("mode", Text, nullable=False, server_default=BatchMode.LIVE),
    Column("mode_because", Text),  # why this one was chosen; NULL: somebody said it
    Column("user_id", Text),  # its owner: of lines that name no user; NULL: each names one
    Column("settings", SETTINGS_OF_BATCH, nullable=False, server_default=text("'{}'")),
    Column("defaults", Json, nullable=False, server_default=text("'{}'")),  # of lines
    Column("reuse", Boolean, nullable=False, server_default=false()),
    Column("deadline", Timestamp),
    Column("max_cost_usd", Dollars()),
    Column("paused_because", Text),
    Column("tended_at", Timestamp),  # somebody has looked what is to be done about it
    Column("resumed_at", Timestamp),  # by somebody who wants it to go on in spite of that
    Column("on_leftover", Text, nullable=False, server_default="live"),  # live, or next (shard)
    Column("last_line", BigInteger, nullable=False, server_default="0"),  # of the file, that stands
    Column("fed_line", BigInteger, nullable=False, server_default="0"),  # the last that was fed
    Column("total", BigInteger),  # lines; NULL until every one stands
    Column("metadata", Json, nullable=False, server_default=text("'{}'")),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("sealed_at", Timestamp),
    Column("ended_at", Timestamp),
    Column("cancelled_at", Timestamp),
    Column("told_at", Timestamp),  # of its end; NULL: not yet, or nobody wants to hear of it
    Column("purged_at", Timestamp),  # its lines went, or go; NULL: they are there
    Column("events", BigInteger, nullable=False, server_default="0"),  # of its own
    UniqueConstraint("name"),
    one_of("state", BatchState),
    one_of("mode", BatchMode),
    bounded("batches"),
)

pauses = Table(
    "pauses",
    metadata,
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("since", Timestamp, nullable=False, server_default=db_now()),
    PrimaryKeyConstraint("kind", "name"),
    CheckConstraint("kind IN ('lane', 'provider')", name="kind_known"),
    bounded("pauses"),
)
