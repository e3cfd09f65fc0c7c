"""A turn may be answered by another target than its session's own, and says by whom, and why."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
phase = "pre"
serves = "0007"

_COUNTED = ("target", "benched", "given_up")


def upgrade() -> None:
    """Apply; code of before goes on, and asks the session's own provider alone."""
    for name in _COUNTED:
        op.add_column("turns", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("turns", sa.Column("answered_by", sa.Text(), nullable=True))
    op.add_column("turns", sa.Column("answered_because", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("provider", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("asked_model", sa.Text(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("attempts", "asked_model")
    op.drop_column("attempts", "provider")
    for name in ("answered_because", "answered_by", *reversed(_COUNTED)):
        op.drop_column("turns", name)
