"""What users give beside their words is kept once each, counted, and known by its uses."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp, db_now

revision = "0019"
down_revision = "0018"
phase = "pre"
serves = "0007"

_IS_DUE = sa.text("due_at IS NOT NULL")
_IS_GONE = sa.text("gone_at IS NOT NULL")


def upgrade() -> None:
    """Apply; code of before goes on, and knows of no attachments."""
    op.create_table(
        "attachments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False, server_default=""),
        sa.Column("name", sa.Text(), nullable=False, server_default=""),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("ready", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("due_at", Timestamp(), nullable=True),
        sa.Column("gone_at", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_attachments"),
        sa.UniqueConstraint("user_id", "sha256", name="uq_attachments_user_id_sha256"),
        sa.CheckConstraint("size >= 0", name=op.f("ck_attachments_size_is_counted")),
        sa.CheckConstraint(
            "sha256 IS NULL OR (ready AND gone_at IS NULL)",
            name=op.f("ck_attachments_content_is_there_to_be_found"),
        ),
    )
    op.create_index("ix_attachments_user", "attachments", ["user_id", "id"])
    op.create_index(
        "ix_attachments_due",
        "attachments",
        ["due_at"],
        postgresql_where=_IS_DUE,
        sqlite_where=_IS_DUE,
    )
    op.create_index(
        "ix_attachments_gone",
        "attachments",
        ["gone_at"],
        postgresql_where=_IS_GONE,
        sqlite_where=_IS_GONE,
    )
    _create_uses()
    op.create_table(
        "file_usage",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_file_usage"),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_file_usage_bytes_are_counted")),
    )


def downgrade() -> None:
    """Undo; bytes stay in the file store, and are nobody's."""
    op.drop_table("file_usage")
    op.drop_table("attachment_uses")
    op.drop_table("attachments")


def _create_uses() -> None:
    op.create_table(
        "attachment_uses",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("attachment_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "attachment_id", name="pk_attachment_uses"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name="fk_attachment_uses_session_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["attachment_id"],
            ["attachments.id"],
            name="fk_attachment_uses_attachment_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_attachment_uses_session", "attachment_uses", ["session_id"])
    op.create_index("ix_attachment_uses_attachment", "attachment_uses", ["attachment_id"])
