"""Budgets that were changed, and ends of batches that nobody was told of, have an index each."""

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0049"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; what workers of before have charged is told of with the next charge of the budget."""
    changed = sa.text("wake_until IS NOT NULL")
    op.create_index(
        "ix_budgets_changed", "budgets", ["id"], postgresql_where=changed, sqlite_where=changed
    )
    untold = sa.text("told_at IS NULL AND ended_at IS NOT NULL")
    op.create_index(
        "ix_batches_untold", "batches", ["id"], postgresql_where=untold, sqlite_where=untold
    )
    op.execute(
        "UPDATE budgets SET wake_until = CURRENT_TIMESTAMP"
        " WHERE spent_usd >= tell_usd AND wake_until IS NULL"
    )


def downgrade() -> None:
    """Take the indexes back."""
    op.drop_index("ix_batches_untold", "batches")
    op.drop_index("ix_budgets_changed", "budgets")
