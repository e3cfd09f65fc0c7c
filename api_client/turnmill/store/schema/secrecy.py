"""What of the tables is content: every column of text or JSON is told to be that, or plain.

A test holds both lists to the tables. Content is sealed where encryption is on; its columns have
the types of `sealed_types`, and what seals and reads them goes by these.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import JSON, Column, Table, Text
from sqlalchemy.types import TypeEngine

from turnmill.store.schema.alert_tables import metadata
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.file_tables import attachments
from turnmill.store.schema.hook_tables import webhooks
from turnmill.store.schema.people_tables import notes
from turnmill.store.schema.rollup_tables import DIMENSIONS, SKETCHES
from turnmill.store.schema.schedule_tables import schedules
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import attempts, batches, messages, sessions, turns
from turnmill.store.schema.template_tables import template_versions
from turnmill.store.schema.topic_tables import topics
from turnmill.store.schema.trial_tables import experiments, trials
from turnmill.store.sealed_types import SealedJson, SealedObject, SealedText

#: What users, models and operators have said.
CONTENT: tuple[Column[Any], ...] = (
    sessions.c.system_prompt,
    messages.c.content,
    attempts.c.error_detail,
    tool_calls.c.decision,
    compactions.c.summary,
    schedules.c.content,
    notes.c.content,
    feedback.c.comment,
    batch_lines.c.content,
    attachments.c.name,
    template_versions.c.definition,
    template_versions.c.note,
    topics.c.words,
    webhooks.c.secret,
    webhooks.c.old_secret,
)

#: What is sealed where that is chosen, but for what budgets, figures and claims go by.
BY_CHOICE: tuple[Column[Any], ...] = (
    sessions.c.settings,
    sessions.c.metadata,
    turns.c.metadata,
    schedules.c.metadata,
    batches.c.settings,
    trials.c.settings,
    experiments.c.settings,
)

_FIGURES = " ".join((*DIMENSIONS, *SKETCHES))

#: What stays plain: ids, states, names that operators chose, figures. `table` → columns.
PLAIN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        table: frozenset(names.split())
        for table, names in {
            "accounts": "kind provider account model code probe_owner",
            # A subject names a model as operators do, a lane, or a budget by its id.
            "alerts": "rule subject",
            "attachments": "user_id sha256 media_type",
            "attempts": "kind worker outcome error_code provider_request_id provider asked_model"
            " model usage service_tier priced_by",
            "audit_heads": "rows_digest before hash",
            "audit_log": "actor login action subject objects figures digest",
            "audit_subjects": "subject user_id key",
            # Metadata that budgets go by: all of it is in the content, too.
            "batch_lines": "custom_id user_id session metadata error_code",
            "batch_shards": "provider model state endpoint stored ref status outputs error_code",
            "batch_tallies": "state error_code",
            "batches": "name state mode mode_because user_id settings defaults paused_because"
            " on_leftover metadata",
            "budgets": "scope name value period timezone on_exceeded warn_at",
            # Of a tag as figures tell it.
            "calls_gone": "kind provider model lane tag budget_ids",
            "compactions": "kind",
            "data_keys": "id user_id scope wrapped_by",
            "deliveries": "kind type share state error_code",
            "erasure_notes": "id document",
            "erasures": "user_hash user_id state reason unaware rows left_behind",
            "event_readers": "name parked_because owner",
            "events": "kind",
            "experiments": "name template provider model settings",
            "feedback": "name",
            "file_usage": "user_id",
            "job_runs": "name result",
            "kept_refs": "ref provider error_code attachment_id",
            "holds": "user_id reason",
            "limits": "provider account model places",
            "messages": "role",
            # Names of people are as those of users.
            "notes": "sender idempotency_key",
            "observed": "observer",
            "participants": "name role",
            "pauses": "kind name",
            "permits": "provider model owner",
            "price_lists": "digest models",
            "reports": "zone file summary",
            "resealing": "name after",
            "reuse_keys": "user_id",
            "spent_gone": "provider model tier",
            # Names of models and of tags that operators chose, and figures.
            **dict.fromkeys(("rollup_days", "rollups", "rollups_gone"), _FIGURES),
            "rollup_state": "tag",
            "schedules": "key cron timezone missed lane metadata error_code",
            # Of settings and metadata see `BY_CHOICE`.
            "sessions": "key user_id provider model status settings metadata provider_ref adopted"
            " on_failure on_ambiguous head_lane template key_id",
            "session_arms": "arm",
            "shared_log": "kind name",
            "subscriptions": "subscriber kind",
            "template_versions": "name",
            "templates": "name",
            "tombstones": "how rows left_behind batches user_hash",
            "tool_calls": "call_id tool effects state error_code",
            "trial_lines": "user_id verdict preferred error_code",
            "trials": "name state provider model settings judge template left_out outcome",
            "turn_senders": "name",
            "turns": "state lane claimed_for lease_owner native_ref idempotency_key custom_id"
            " metadata error_code waits_for step_ref reply_as finish_reason own_history answered_by"
            " answered_because",
            **dict.fromkeys(("usage_daily", "usage_gone"), "provider model"),
            "user_retention": "user_id",
            "webhooks": "url kinds parked_because",
            "wishes": "verb asked_by",
        }.items()
    }
)


def unmarked() -> Iterator[str]:
    """Yield the columns of text or JSON, as table.column, that nobody has told to be either."""
    for table in metadata.sorted_tables:
        plain = PLAIN.get(table.name, frozenset())
        for column in table.c:
            if _holds_words(column.type) and column.name not in plain and not _is_content(column):
                yield f"{table.name}.{column.name}"


def place_of(column: Column[Any], row: Any) -> str:
    """Return where a value stands, as its type says: what it is sealed for."""
    return "/".join(_named(getattr(row, name)) for name in column.type.row)  # type: ignore[attr-defined]


def table_of(column: Column[Any]) -> Table:
    """Return the table of a column."""
    table: Any = column.table
    assert isinstance(table, Table)
    return table


def _named(value: Any) -> str:
    if hasattr(value, "hex") and not isinstance(value, (str, float)):
        found: str = value.hex
        return found
    return value.encode().hex() if isinstance(value, str) else str(value)


def _is_content(column: Column[Any]) -> bool:
    return any(one is column for one in CONTENT) and isinstance(
        column.type, (SealedJson, SealedText)
    )


def _holds_words(kind: TypeEngine[Any]) -> bool:
    return isinstance(kind, (Text, JSON, SealedJson, SealedObject, SealedText))
