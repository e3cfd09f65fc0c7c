"""Attempts keep what the vendor said of their usage, and what they were priced by."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json

revision = "0014"
down_revision = "0013"
phase = "pre"
serves = "0007"

_COLUMNS = (
    ("cache_write_1h_tokens", sa.BigInteger()),
    ("usage", Json),
    ("service_tier", sa.Text()),
    ("priced_by", sa.Text()),
)


def upgrade() -> None:
    """Apply; of attempts before, and of those of older code, nobody knows."""
    for name, kind in _COLUMNS:
        op.add_column("attempts", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("attempts") as batch_op:
        for name, _ in reversed(_COLUMNS):
            batch_op.drop_column(name)
