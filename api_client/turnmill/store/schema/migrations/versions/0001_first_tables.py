"""First tables."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "announcements",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_announcements")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE announcements SET UNLOGGED")
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("last_line", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("metadata", Json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("cancelled_at", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
        sa.UniqueConstraint("name", name=op.f("uq_batches_name")),
    )
    op.create_table(
        "job_runs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slot", Timestamp(), nullable=False),
        sa.Column("started_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("finished_at", Timestamp(), nullable=True),
        sa.Column("result", Json, nullable=True),
        sa.PrimaryKeyConstraint("name", "slot", name=op.f("pk_job_runs")),
    )
    op.create_table(
        "pauses",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since", Timestamp(), server_default=db_now(), nullable=False),
        sa.CheckConstraint("kind IN ('lane', 'provider')", name=op.f("ck_pauses_kind_known")),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_pauses")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("settings", Json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("metadata", Json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("provider_ref", sa.Text(), server_default="", nullable=False),
        sa.Column("on_failure", sa.Text(), server_default="continue", nullable=False),
        sa.Column("on_ambiguous", sa.Text(), server_default="reconcile", nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default="5", nullable=False),
        sa.Column("idle_seconds", sa.BigInteger(), nullable=True),
        sa.Column("next_seq", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unfinished", sa.Integer(), server_default="0", nullable=False),
        sa.Column("head_turn_id", sa.Uuid(), nullable=True),
        sa.Column("head_lane", sa.Text(), nullable=True),
        sa.Column("head_due_at", Timestamp(), nullable=True),
        sa.Column("turns_succeeded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("turns_failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "cost_usd", sa.Numeric(precision=20, scale=10), server_default="0", nullable=False
        ),
        sa.Column("unpriced_attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("last_active_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("archived_at", Timestamp(), nullable=True),
        sa.CheckConstraint(
            "on_ambiguous IN ('hold', 'reconcile', 'retry')",
            name=op.f("ck_sessions_on_ambiguous_known"),
        ),
        sa.CheckConstraint(
            "on_failure IN ('continue', 'pause')", name=op.f("ck_sessions_on_failure_known")
        ),
        sa.CheckConstraint(
            "status IN ('active', 'archived', 'deleted', 'paused')",
            name=op.f("ck_sessions_status_known"),
        ),
        sa.CheckConstraint(
            "(unfinished = 0) = (head_turn_id IS NULL)",
            name=op.f("ck_sessions_head_stands_for_line"),
        ),
        sa.CheckConstraint("unfinished >= 0", name=op.f("ck_sessions_unfinished_counts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("key", name=op.f("uq_sessions_key")),
        postgresql_with={"fillfactor": "80"},
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_sessions_deleted",
            ["id"],
            unique=False,
            postgresql_where=sa.text("status = 'deleted'"),
            sqlite_where=sa.text("status = 'deleted'"),
        )
        batch_op.create_index(
            "ix_sessions_due",
            ["head_lane", "provider", "head_due_at"],
            unique=False,
            postgresql_where=sa.text("head_due_at IS NOT NULL AND status = 'active'"),
            sqlite_where=sa.text("head_due_at IS NOT NULL AND status = 'active'"),
        )
        batch_op.create_index(
            "ix_sessions_idle",
            ["idle_seconds", "last_active_at"],
            unique=False,
            postgresql_where=sa.text("status = 'active' AND unfinished = 0"),
            sqlite_where=sa.text("status = 'active' AND unfinished = 0"),
        )
        batch_op.create_index(
            "ix_sessions_archived_at",
            ["archived_at"],
            unique=False,
            postgresql_where=sa.text("archived_at IS NOT NULL"),
            sqlite_where=sa.text("archived_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_sessions_unclosed",
            ["id"],
            unique=False,
            postgresql_where=sa.text("status = 'archived' AND provider_ref <> ''"),
            sqlite_where=sa.text("status = 'archived' AND provider_ref <> ''"),
        )
        batch_op.create_index(
            "ix_sessions_unfinished",
            ["user_id"],
            unique=False,
            postgresql_where=sa.text("unfinished > 0"),
            sqlite_where=sa.text("unfinished > 0"),
        )
        batch_op.create_index("ix_sessions_user_id", ["user_id", "id"], unique=False)

    op.create_table(
        "usage_daily",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("turns", sa.BigInteger(), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("dead", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("expired", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("retries", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Numeric(precision=20, scale=10), nullable=False),
        sa.Column("unpriced_attempts", sa.BigInteger(), nullable=False),
        sa.Column("rolled_up_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("day", "provider", "model", name=op.f("pk_usage_daily")),
    )
    op.create_table(
        "turns",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("lane", sa.Text(), server_default="interactive", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("claims", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_for", sa.Text(), nullable=True),
        sa.Column("lost", sa.Integer(), server_default="0", nullable=False),
        sa.Column("available_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("expires_at", Timestamp(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_fence", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", Timestamp(), nullable=True),
        sa.Column("sent_at", Timestamp(), nullable=True),
        sa.Column(
            "cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column("native_ref", sa.Text(), server_default="", nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("idempotency_hash", sa.LargeBinary(), nullable=True),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("batch_line", sa.BigInteger(), nullable=True),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("retry_of", sa.Uuid(), nullable=True),
        sa.Column("metadata", Json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Numeric(precision=20, scale=10), nullable=True),
        sa.Column("created_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("started_at", Timestamp(), nullable=True),
        sa.Column("finished_at", Timestamp(), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (lease_owner IS NOT NULL)",
            name=op.f("ck_turns_running_is_leased"),
        ),
        sa.CheckConstraint(
            "lane IN ('bulk', 'interactive', 'quarantine')", name=op.f("ck_turns_lane_known")
        ),
        sa.CheckConstraint(
            "state IN ('cancelled', 'dead', 'expired', 'failed', 'queued', 'retrying', 'running', 'succeeded', 'unknown', 'waiting')",
            name=op.f("ck_turns_state_known"),
        ),
        sa.CheckConstraint(
            "(lease_owner IS NULL) = (lease_until IS NULL)", name=op.f("ck_turns_lease_has_end")
        ),
        sa.CheckConstraint(
            "attempt >= 0 AND attempt <= max_attempts", name=op.f("ck_turns_attempts_finite")
        ),
        sa.CheckConstraint("lost >= 0 AND lost <= 8", name=op.f("ck_turns_losses_finite")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_turns_batch_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_turns_session_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_turns")),
        sa.UniqueConstraint("batch_id", "batch_line", name=op.f("uq_turns_batch_id_batch_line")),
        sa.UniqueConstraint(
            "session_id", "idempotency_key", name=op.f("uq_turns_session_id_idempotency_key")
        ),
        sa.UniqueConstraint("session_id", "seq", name=op.f("uq_turns_session_id_seq")),
        postgresql_with={"fillfactor": "80"},
    )
    with op.batch_alter_table("turns", schema=None) as batch_op:
        batch_op.create_index(
            "ix_turns_expiry",
            ["expires_at"],
            unique=False,
            postgresql_where=sa.text("expires_at IS NOT NULL AND state IN ('queued', 'retrying')"),
            sqlite_where=sa.text("expires_at IS NOT NULL AND state IN ('queued', 'retrying')"),
        )
        batch_op.create_index(
            "ix_turns_failed",
            ["id"],
            unique=False,
            postgresql_where=sa.text("state IN ('dead', 'failed')"),
            sqlite_where=sa.text("state IN ('dead', 'failed')"),
        )
        batch_op.create_index(
            "ix_turns_finished_at", ["finished_at"], unique=False, postgresql_using="brin"
        )
        batch_op.create_index(
            "ix_turns_lease",
            ["lease_until"],
            unique=False,
            postgresql_where=sa.text("state = 'running'"),
            sqlite_where=sa.text("state = 'running'"),
        )
        batch_op.create_index(
            "ix_turns_line",
            ["session_id", "seq"],
            unique=False,
            postgresql_where=sa.text(
                "state IN ('queued', 'retrying', 'running', 'unknown', 'waiting')"
            ),
            sqlite_where=sa.text(
                "state IN ('queued', 'retrying', 'running', 'unknown', 'waiting')"
            ),
        )
        batch_op.create_index(
            "uq_turns_one_running",
            ["session_id"],
            unique=True,
            postgresql_where=sa.text("state = 'running'"),
            sqlite_where=sa.text("state = 'running'"),
        )

    op.create_table(
        "attempts",
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("ended_at", Timestamp(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("provider_request_id", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Numeric(precision=20, scale=10), nullable=True),
        sa.Column("provider_ms", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('send', 'check', 'resume')", name=op.f("ck_attempts_kind_known")
        ),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (outcome IS NULL)", name=op.f("ck_attempts_ended_has_outcome")
        ),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name=op.f("fk_attempts_turn_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("turn_id", "fence", name=op.f("pk_attempts")),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("final", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.CheckConstraint(
            "role IN ('user', 'assistant', 'tool', 'system')", name=op.f("ck_messages_role_known")
        ),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name=op.f("fk_messages_turn_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint("turn_id", "position", name=op.f("uq_messages_turn_id_position")),
    )
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.create_index(
            "uq_messages_one_reply",
            ["turn_id"],
            unique=True,
            postgresql_where=sa.text("final"),
            sqlite_where=sa.text("final"),
        )


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_messages_one_reply",
            postgresql_where=sa.text("final"),
            sqlite_where=sa.text("final"),
        )

    op.drop_table("messages")
    op.drop_table("attempts")
    with op.batch_alter_table("turns", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_turns_one_running",
            postgresql_where=sa.text("state = 'running'"),
            sqlite_where=sa.text("state = 'running'"),
        )
        batch_op.drop_index(
            "ix_turns_line",
            postgresql_where=sa.text(
                "state IN ('queued', 'retrying', 'running', 'unknown', 'waiting')"
            ),
            sqlite_where=sa.text(
                "state IN ('queued', 'retrying', 'running', 'unknown', 'waiting')"
            ),
        )
        batch_op.drop_index(
            "ix_turns_lease",
            postgresql_where=sa.text("state = 'running'"),
            sqlite_where=sa.text("state = 'running'"),
        )
        batch_op.drop_index("ix_turns_finished_at", postgresql_using="brin")
        batch_op.drop_index(
            "ix_turns_failed",
            postgresql_where=sa.text("state IN ('dead', 'failed')"),
            sqlite_where=sa.text("state IN ('dead', 'failed')"),
        )
        batch_op.drop_index(
            "ix_turns_expiry",
            postgresql_where=sa.text("expires_at IS NOT NULL AND state IN ('queued', 'retrying')"),
            sqlite_where=sa.text("expires_at IS NOT NULL AND state IN ('queued', 'retrying')"),
        )

    op.drop_table("turns")
    op.drop_table("usage_daily")
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index("ix_sessions_user_id")
        batch_op.drop_index(
            "ix_sessions_unfinished",
            postgresql_where=sa.text("unfinished > 0"),
            sqlite_where=sa.text("unfinished > 0"),
        )
        batch_op.drop_index(
            "ix_sessions_idle",
            postgresql_where=sa.text("status = 'active' AND unfinished = 0"),
            sqlite_where=sa.text("status = 'active' AND unfinished = 0"),
        )
        batch_op.drop_index(
            "ix_sessions_archived_at",
            postgresql_where=sa.text("archived_at IS NOT NULL"),
            sqlite_where=sa.text("archived_at IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_sessions_unclosed",
            postgresql_where=sa.text("status = 'archived' AND provider_ref <> ''"),
            sqlite_where=sa.text("status = 'archived' AND provider_ref <> ''"),
        )
        batch_op.drop_index(
            "ix_sessions_due",
            postgresql_where=sa.text("head_due_at IS NOT NULL AND status = 'active'"),
            sqlite_where=sa.text("head_due_at IS NOT NULL AND status = 'active'"),
        )
        batch_op.drop_index(
            "ix_sessions_deleted",
            postgresql_where=sa.text("status = 'deleted'"),
            sqlite_where=sa.text("status = 'deleted'"),
        )

    op.drop_table("sessions")
    op.drop_table("pauses")
    op.drop_table("job_runs")
    op.drop_table("batches")
    op.drop_table("announcements")
