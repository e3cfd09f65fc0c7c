"""A turn that was put off says what it waits for, and how often it was."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
phase = "pre"
serves = "0001"


def upgrade() -> None:
    """Apply."""
    op.add_column("turns", sa.Column("waits_for", sa.Text()))
    op.add_column("turns", sa.Column("put_off", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    """Undo."""
    op.drop_column("turns", "put_off")
    op.drop_column("turns", "waits_for")
