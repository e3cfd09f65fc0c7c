"""An attempt says how often it was put off: those claims have asked no provider for anything."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; what was put off before still counts as asked for."""
    op.add_column(
        "attempts", sa.Column("put_off", sa.Integer(), server_default="0", nullable=False)
    )


def downgrade() -> None:
    """Undo."""
    op.drop_column("attempts", "put_off")
