"""What is to be said in a session again and again, or later, is a schedule."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0025"
down_revision = "0024"
phase = "pre"
serves = "0007"

_LOOKED_FOR = sa.text("next_at IS NOT NULL")


def upgrade() -> None:
    """Apply; code of before goes on, and makes no runs: workers of this version do."""
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("content", Json, nullable=False),
        sa.Column("cron", sa.Text(), nullable=True),
        sa.Column("at", Timestamp(), nullable=True),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("until", Timestamp(), nullable=True),
        sa.Column("missed", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("metadata", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("max_attempts", sa.Integer(), nullable=True),
        sa.Column("max_cost_usd", sa.Numeric(20, 10), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("next_at", Timestamp(), nullable=True),
        sa.Column("last_at", Timestamp(), nullable=True),
        sa.Column("last_turn_id", sa.Uuid(), nullable=True),
        sa.Column("runs", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("skipped", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("updated_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_schedules_session_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("session_id", "key", name="uq_schedules_session_id_key"),
        sa.CheckConstraint(
            "missed IN ('all', 'once', 'skip')", name=op.f("ck_schedules_missed_known")
        ),
        sa.CheckConstraint(
            "lane IN ('bulk', 'interactive', 'quarantine')", name=op.f("ck_schedules_lane_known")
        ),
        sa.CheckConstraint("(cron IS NULL) <> (at IS NULL)", name=op.f("ck_schedules_cron_or_at")),
        sa.CheckConstraint(
            "NOT paused OR next_at IS NULL", name=op.f("ck_schedules_paused_is_not_due")
        ),
    )
    op.create_index(
        "ix_schedules_next_at",
        "schedules",
        ["next_at"],
        postgresql_where=_LOOKED_FOR,
        sqlite_where=_LOOKED_FOR,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("schedules")
