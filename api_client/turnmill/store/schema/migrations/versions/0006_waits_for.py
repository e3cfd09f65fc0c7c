"""A turn that was put off says what it waits for."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
phase = "pre"
serves = "0001"


def upgrade() -> None:
    """Apply."""
    op.add_column("turns", sa.Column("waits_for", sa.Text()))


def downgrade() -> None:
    """Undo."""
    op.drop_column("turns", "waits_for")
