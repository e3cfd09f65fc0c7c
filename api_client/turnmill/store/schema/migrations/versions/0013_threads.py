"""Threads of a vendor's: adopted ones, those that a session stands on, and turns without theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
phase = "pre"
serves = "0007"

_ONE_SESSION = sa.text("substr(adopted, 1, 5) = 'conv_' AND status IN ('active', 'paused')")


def upgrade() -> None:
    """Apply; code of before adopts nothing, and names none of these."""
    op.add_column("sessions", sa.Column("adopted", sa.Text(), nullable=True))
    op.add_column("turns", sa.Column("own_history", sa.Text(), nullable=True))
    op.add_column(
        "kept_refs",
        sa.Column("is_thread", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index(
        "uq_sessions_adopted",
        "sessions",
        ["provider", "adopted"],
        unique=True,
        postgresql_where=_ONE_SESSION,
        sqlite_where=_ONE_SESSION,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("uq_sessions_adopted", "sessions")
    op.drop_column("kept_refs", "is_thread")
    op.drop_column("turns", "own_history")
    op.drop_column("sessions", "adopted")
