"""Versions of a session's options, how long content is kept, and that a session was deleted."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0022"
down_revision = "0021"
phase = "pre"
serves = "0007"

_KEPT = sa.text("content_seconds IS NOT NULL")


def upgrade() -> None:
    """Apply; code of before goes on: it keeps all content, and deletes without a tombstone."""
    op.add_column(
        "sessions", sa.Column("version", sa.BigInteger(), nullable=False, server_default="1")
    )
    op.add_column("sessions", sa.Column("forked_from", sa.Uuid(), nullable=True))
    op.add_column("sessions", sa.Column("content_seconds", sa.BigInteger(), nullable=True))
    op.add_column("sessions", sa.Column("content_from", Timestamp(), nullable=True))
    op.add_column("sessions", sa.Column("content_gone_until", Timestamp(), nullable=True))
    op.create_index(
        "ix_sessions_content_seconds",
        "sessions",
        ["content_seconds"],
        postgresql_where=_KEPT,
        sqlite_where=_KEPT,
    )
    op.create_table(
        "tombstones",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("removed_at", Timestamp(), nullable=True),
        sa.Column("rows", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("left_behind", Json, nullable=False, server_default=sa.text("'[]'")),
        sa.PrimaryKeyConstraint("session_id", name="pk_tombstones"),
        sa.CheckConstraint("how IN ('deleted', 'purged')", name=op.f("ck_tombstones_how_known")),
    )
    op.create_index("ix_tombstones_at", "tombstones", ["at"])
    op.create_table(
        "user_retention",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("content_seconds", sa.BigInteger(), nullable=False),
        sa.Column("set_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("user_id", name="pk_user_retention"),
        sa.CheckConstraint("content_seconds > 0", name=op.f("ck_user_retention_content_is_kept")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("user_retention")
    op.drop_index("ix_tombstones_at", "tombstones")
    op.drop_table("tombstones")
    op.drop_index("ix_sessions_content_seconds", table_name="sessions")
    for name in ("content_gone_until", "content_from", "content_seconds", "forked_from", "version"):
        op.drop_column("sessions", name)
