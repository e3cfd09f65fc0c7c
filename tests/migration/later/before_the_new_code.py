"""A later version's first step: what it adds, the code of today never sees."""

import sqlalchemy as sa
from alembic import op

from tests.migration.later import TODAY

revision = "9001"
down_revision = TODAY
phase = "pre"
serves = TODAY


def upgrade() -> None:
    """Apply; the index without keeping anybody from writing."""
    op.add_column("turns", sa.Column("mood", sa.Text(), nullable=True))
    with op.get_context().autocommit_block():
        op.create_index("ix_turns_mood", "turns", ["mood"], postgresql_concurrently=True)


def downgrade() -> None:
    """Undo."""
    op.drop_column("turns", "mood")
