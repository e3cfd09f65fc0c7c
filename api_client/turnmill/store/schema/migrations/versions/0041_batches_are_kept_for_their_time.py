"""Lines of batches go after their time, and say what budgets go by though they are encrypted."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp

revision = "0041"
down_revision = "0040"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before goes on. Of lines that stand by now, what they say is looked at."""
    op.add_column("batch_lines", sa.Column("metadata", Json, nullable=True))
    op.add_column("batches", sa.Column("purged_at", Timestamp(), nullable=True))


def downgrade() -> None:
    """Undo; lines that went stay so, and their batches have no results."""
    op.drop_column("batches", "purged_at")
    op.drop_column("batch_lines", "metadata")
