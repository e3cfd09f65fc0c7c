"""What roles of Postgres may do that have one errand: to send and read replies, or to audit."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from turnmill.store.schema.revision import VERSION_TABLE


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
                *("waits_for", "cancel_requested", "lost", "sent_at", "keep_partial", "reply_as"),
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
