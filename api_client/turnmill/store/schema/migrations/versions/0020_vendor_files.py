"""Copies of attachments that vendors keep: whose they are, and when they go by themselves."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp

revision = "0020"
down_revision = "0019"
phase = "pre"
serves = "0007"

_COPIES = sa.text("attachment_id IS NOT NULL")


def upgrade() -> None:
    """Apply; code of before uploads nothing, and deletes what it finds there as all else."""
    op.add_column("kept_refs", sa.Column("attachment_id", sa.Text(), nullable=True))
    op.add_column("kept_refs", sa.Column("fence", sa.BigInteger(), nullable=True))
    op.add_column("kept_refs", sa.Column("expires_at", Timestamp(), nullable=True))
    op.create_index(
        "ix_kept_refs_copies",
        "kept_refs",
        ["attachment_id"],
        postgresql_where=_COPIES,
        sqlite_where=_COPIES,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_kept_refs_copies", "kept_refs")
    op.drop_column("kept_refs", "expires_at")
    op.drop_column("kept_refs", "fence")
    op.drop_column("kept_refs", "attachment_id")
