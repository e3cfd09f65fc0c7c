"""Which users have something due in a lane is found without looking through what is due there."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
phase = "pre"
serves = "0007"

_OPEN = sa.text("head_due_at IS NOT NULL AND (status || '') = 'active'")


def upgrade() -> None:
    """Apply; code of before goes on, and takes what is due in the order of time alone."""
    op.create_index(
        "ix_sessions_users_due",
        "sessions",
        ["head_lane", "provider", "user_id", "head_due_at"],
        postgresql_where=_OPEN,
        sqlite_where=_OPEN,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_sessions_users_due", table_name="sessions")
