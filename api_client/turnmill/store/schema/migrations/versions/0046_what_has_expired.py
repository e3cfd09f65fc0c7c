"""What has expired is found by an index that a plan cannot take for that of all that waits."""

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"
phase = "pre"
serves = "0007"

_TO_EXPIRE = sa.text("expires_at IS NOT NULL AND (state || '') IN ('queued', 'retrying')")
_BEFORE = sa.text("expires_at IS NOT NULL AND state IN ('queued', 'retrying')")


def upgrade() -> None:
    """Apply; code of before finds what has expired by the index of unfinished turns."""
    op.create_index(
        "ix_turns_overdue",
        "turns",
        ["expires_at"],
        postgresql_where=_TO_EXPIRE,
        sqlite_where=_TO_EXPIRE,
    )
    op.drop_index("ix_turns_expiry", table_name="turns")


def downgrade() -> None:
    """Undo."""
    op.create_index(
        "ix_turns_expiry",
        "turns",
        ["expires_at"],
        postgresql_where=_BEFORE,
        sqlite_where=_BEFORE,
    )
    op.drop_index("ix_turns_overdue", table_name="turns")
