"""What each role of Postgres may do to which rows and columns."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from turnmill.store.schema.revision import VERSION_TABLE
from turnmill.store.schema.rollup_tables import SAID


class Grant(NamedTuple):
    """What is granted on one table, by columns; `WHOLE` is all of them, also those to come."""

    select: Sequence[str] = ()
    insert: Sequence[str] = ()
    update: Sequence[str] = ()


WHOLE = ("*",)

_ACCEPTED = (
    *("lane", "max_attempts", "available_at", "expires_at", "idempotency_key", "idempotency_hash"),
    *("batch_id", "batch_line", "custom_id", "retry_of", "metadata", "stream", "max_cost_usd"),
)

#: Who writes messages into sessions that others have opened, and reads what came of them. Neither
#: instructions nor settings, nor what models give to tools; it changes no message and no state.
PRODUCED: Mapping[str, Grant] = MappingProxyType(
    {
        "sessions": Grant(
            select=(
                *("id", "user_id", "key", "provider", "model", "status", "max_attempts"),
                *("next_seq", "unfinished", "head_turn_id", "head_lane", "head_due_at", "events"),
                *("content_gone_until", "created_at", "last_active_at"),
            ),
            update=(
                *("next_seq", "unfinished", "last_active_at", "head_lane", "head_due_at"),
                *("head_turn_id", "events"),
            ),
        ),
        "turns": Grant(
            select=(
                *("id", "session_id", "seq", "state", "attempt", "claims", "lease_fence", "step"),
                *_ACCEPTED,
                *("error_code", "finish_reason", "input_tokens", "output_tokens", "cached_tokens"),
                *("cost_usd", "own_history", "target", "answered_by", "answered_because"),
                *("waits_for", "parked_until", "cancel_requested", "lost", "sent_at"),
                *("keep_partial", "reply_as"),
                *("lease_owner", "lease_until"),
                *("created_at", "started_at", "finished_at"),
            ),
            insert=("id", "session_id", "seq", *_ACCEPTED),
            update=("reply_as",),
        ),
        "messages": Grant(
            select=(
                *("id", "session_id", "turn_id", "position", "role", "content", "final"),
                *("partial", "created_at"),
            ),
            insert=("id", "session_id", "turn_id", "position", "role", "content"),
        ),
        # Whoever is shown a reply says what he thinks of it.
        "feedback": Grant(
            select=WHOLE,
            insert=("id", "turn_id", "session_id", "name", "score", "comment"),
            update=("score", "comment", "changes", "updated_at"),
        ),
        # A reply says what each try came to, in its vendor's words, too.
        "attempts": Grant(select=WHOLE),
        "events": Grant(insert=("session_id", "n", "turn_id", "kind", "at")),
        "subscriptions": Grant(select=WHOLE),
        # Wrapped, where they stand here: without the keyring nobody opens them.
        "data_keys": Grant(select=WHOLE, insert=WHOLE),
        "erasure_notes": Grant(select=WHOLE),
        "tombstones": Grant(select=("session_id", "how", "at", "removed_at")),
        # What it reads can be written down, where that is asked for.
        "audit_log": Grant(
            select=("id",),
            insert=(
                *("id", "at", "actor", "login", "action", "subject", "objects", "figures"),
                *("after", "digest"),
            ),
        ),
        "audit_subjects": Grant(
            select=("subject", "user_id"), insert=("subject", "user_id", "key")
        ),
        VERSION_TABLE: Grant(select=WHOLE),
        "revisions": Grant(select=WHOLE),
    }
)
PRODUCER_SEQUENCES = ("audit_log_id_seq",)

#: Who looks at what was done, and at what upkeep has done of it: neither content nor figures of
#: turns. It writes nothing.
AUDITED: Mapping[str, Grant] = MappingProxyType(
    {
        "audit_log": Grant(select=WHOLE),
        "audit_heads": Grant(select=WHOLE),
        "audit_subjects": Grant(select=WHOLE),
        "tombstones": Grant(select=WHOLE),
        "user_retention": Grant(select=WHOLE),
        "job_runs": Grant(select=WHOLE),
        VERSION_TABLE: Grant(select=WHOLE),
        "revisions": Grant(select=WHOLE),
    }
)

#: Views for people with a dashboard of their own. What they are made of is read with their owner's
#: rights.
VIEWS = (
    *("v_usage", "v_usage_days", "v_latency", "v_latency_days", "v_alerts", "v_folded"),
    *("v_feedback_days", "v_topics", "v_trials", "v_experiments"),
)

#: Who reads figures: nothing of a session, a turn or a user. It writes nothing.
ANALYSED: Mapping[str, Grant] = MappingProxyType(dict.fromkeys(VIEWS, Grant(select=WHOLE)))

#: Functions that those who work on rows run; some of them with the owner's rights.
RUN_BY_RUNTIME = ("audit_purge", "budgets_lock", "budgets_reserve", "budgets_charge")

_WRITES = ("INSERT", "UPDATE", "DELETE")
#: What those who work on rows may not do: migrations write the first two, and nobody changes a log.
WITHHELD: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        VERSION_TABLE: _WRITES,
        "revisions": _WRITES,
        "audit_log": ("UPDATE", "DELETE"),
        "audit_heads": ("UPDATE", "DELETE"),
        "audit_subjects": ("UPDATE",),
    }
)

#: What the viewer reads: states, times, numbers and names of ours. Neither what anybody wrote or
#: was answered, nor what callers name themselves or their users by. A column that is not here is
#: not read.
VIEWED: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "sessions": (
            *("id", "provider", "model", "status", "on_ambiguous", "next_seq", "unfinished"),
            *("head_turn_id", "head_lane", "head_due_at", "turns_succeeded", "turns_failed"),
            *("input_tokens", "output_tokens", "cost_usd", "unpriced_attempts"),
            *("created_at", "last_active_at", "archived_at", "version", "content_gone_until"),
        ),
        "turns": (
            *("id", "session_id", "seq", "state", "lane", "attempt", "max_attempts", "lost"),
            *("available_at", "expires_at", "lease_owner", "lease_until", "cancel_requested"),
            *("sent_at", "parked_until"),
            *("batch_id", "batch_line", "retry_of", "error_code", "waits_for", "finish_reason"),
            *("stream", "step", "keep_partial", "reply_as", "own_history", "max_cost_usd"),
            *("target", "answered_by", "answered_because"),
            *("input_tokens", "output_tokens", "cached_tokens", "cost_usd"),
            *("created_at", "started_at", "finished_at"),
        ),
        "attempts": (
            *("turn_id", "fence", "n", "kind", "worker", "started_at", "ended_at", "polls"),
            *("put_off",),
            *("provider", "asked_model"),
            *("outcome", "error_code", "provider_request_id", "model"),
            *("input_tokens", "output_tokens"),
            *("cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "cost_usd"),
            *("provider_ms", "step", "first_token_ms", "estimated"),
            *("usage", "service_tier", "priced_by"),
        ),
        # Neither the name of the tool nor that of the call: a model may write what it likes there.
        "tool_calls": (
            *("turn_id", "position", "session_id", "step", "effects", "state", "approval", "runs"),
            *("fence", "error_code", "created_at", "started_at", "ended_at", "expires_at"),
        ),
        "compactions": (
            *("session_id", "n", "turn_id", "kind", "up_to_seq", "turns"),
            *("input_tokens", "output_tokens", "cost_usd", "created_at"),
        ),
        # Neither whose they are: users and tags have names that callers chose.
        "budgets": (
            *("id", "scope", "period", "timezone", "limit_usd", "on_exceeded", "warn_at", "n"),
            *("starts_at", "ends_at", "spent_usd", "reserved_usd", "estimated_usd"),
            *("created_at", "updated_at"),
        ),
        "charges": (
            *("turn_id", "fence", "budget_id", "period", "reserved_usd", "charged_usd"),
            *("estimated_usd", "at", "shard_id"),
        ),
        # Neither whose they are, nor what they are called, nor what tells their content.
        "attachments": (
            *("id", "size", "media_type", "width", "height", "duration_ms", "ready"),
            *("created_at", "due_at", "gone_at"),
        ),
        "attachment_uses": ("session_id", "turn_id", "attachment_id"),
        # Neither what a batch is called, nor whose it is, nor what its lines say.
        "batches": (
            *("id", "state", "mode", "reuse", "deadline", "max_cost_usd", "last_line", "fed_line"),
            *("total", "created_at", "sealed_at", "ended_at", "cancelled_at"),
        ),
        "batch_lines": (
            *("batch_id", "line", "state", "wave", "turn_id", "error_code", "weight", "bound_usd"),
        ),
        "batch_tallies": (
            *("batch_id", "part", "state", "error_code", "n", "cost_usd", "unpriced"),
            *("input_tokens", "output_tokens", "last_at"),
        ),
        "batch_shards": (
            *("id", "batch_id", "n", "provider", "model", "state", "lines", "bytes", "tokens"),
            *("created_at", "endpoint", "due_at", "tries", "status", "error_code"),
            *("asked_at", "begun_at", "ended_at"),
        ),
        "events": ("session_id", "n", "turn_id", "kind", "at", "place", "budget_id", "share"),
        "templates": ("name", "current", "latest"),
        "template_versions": ("name", "version", "created_at"),
        # Neither what they say, nor by which key callers know them.
        "schedules": (
            *("id", "session_id", "cron", "at", "timezone", "until", "missed", "lane", "paused"),
            *("next_at", "last_at", "last_turn_id", "runs", "skipped", "error_code"),
            *("created_at", "updated_at"),
        ),
        # Neither who takes part, nor what is said.
        "shared_sessions": ("session_id", "last_n", "last_seq"),
        "participants": ("session_id", "role", "read_n", "joined_at"),
        "shared_log": ("session_id", "n", "kind", "turn_id", "open", "at"),
        "notes": ("session_id", "n", "after_seq", "created_at"),
        "turn_senders": ("turn_id", "session_id"),
        # Neither whose word it is, nor what was said beside the number.
        "feedback": (
            *("id", "turn_id", "session_id", "score", "changes", "created_at", "updated_at"),
        ),
        "subscriptions": ("subscriber", "kind"),
        # Neither the address nor the secret of a webhook.
        "webhooks": (
            *("id", "kinds", "include_content", "parked_at", "parked_because", "missed"),
            "created_at",
        ),
        "deliveries": (
            *("id", "webhook_id", "session_id", "n", "turn_id", "kind", "at", "state", "due_at"),
            *("tries", "first_at", "status", "error_code", "took_ms", "ended_at", "created_at"),
        ),
        "pauses": ("kind", "name", "since"),
        "tombstones": ("session_id", "how", "at", "removed_at", "rows"),
        "limits": (
            *("provider", "model", "requests_per_minute", "tokens_per_minute", "concurrent"),
            *("account", "requests_until", "tokens_until", "at"),
        ),
        "permits": ("provider", "model", "owner", "held", "until"),
        "price_lists": ("digest", "models", "seen_at"),
        # A few digits of a hash stand for the key.
        "accounts": (
            *("id", "kind", "provider", "account", "model", "code", "permanent", "n", "times"),
            *("closed_at", "closed_until", "probe_until", "opened_at", "turn_id"),
        ),
        # Neither of what: a subject names a model as somebody has called it.
        "alerts": (
            *("id", "rule", "value", "worst", "usual", "bound", "opened_at", "seen_at"),
            *("calm_since", "closed_at"),
        ),
        "job_runs": ("name", "slot", "started_at", "finished_at", "result"),
        # But for tags: callers chose what they say.
        **dict.fromkeys(
            ("rollup_days", "rollups"), ("slot", "provider", "model", "tier", "lane", *SAID)
        ),
        "rollup_state": ("place", "first_slot", "days_until", "folded_at", "folded_until"),
    }
)
