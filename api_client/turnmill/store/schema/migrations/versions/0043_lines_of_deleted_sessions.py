"""Lines that go on with a session, and wait, are found when that is deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
phase = "pre"
serves = "0007"

_WAITING = sa.text("session IS NOT NULL AND turn_id IS NULL")


def upgrade() -> None:
    """Apply; code of before goes on."""
    op.create_index(
        "ix_batch_lines_session",
        "batch_lines",
        ["session"],
        postgresql_where=_WAITING,
        sqlite_where=_WAITING,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_batch_lines_session", "batch_lines")
