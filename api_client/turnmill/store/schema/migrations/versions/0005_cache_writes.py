"""Attempts know how many tokens went into a vendor's cache: they are priced by it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
phase = "pre"
serves = "0001"


def upgrade() -> None:
    """Apply; of attempts before, and of those of older code, it stays unknown."""
    op.add_column("attempts", sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("attempts") as batch_op:
        batch_op.drop_column("cache_write_tokens")
