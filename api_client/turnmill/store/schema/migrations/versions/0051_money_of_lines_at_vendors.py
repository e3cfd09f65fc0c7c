"""Lines that stand in a vendor's batch hold what they may cost, and wait where no budget has it."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp

revision = "0051"
down_revision = "0050"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before reserves nothing for them, and upkeep gives back what it leaves."""
    op.add_column("charges", sa.Column("shard_id", sa.Uuid(), nullable=True))
    held = sa.text("shard_id IS NOT NULL")
    op.create_index(
        "ix_charges_shard_id", "charges", ["shard_id"], postgresql_where=held, sqlite_where=held
    )
    op.add_column("turns", sa.Column("parked_until", Timestamp(), nullable=True))


def downgrade() -> None:
    """Take the columns back."""
    op.drop_column("turns", "parked_until")
    op.drop_index("ix_charges_shard_id", "charges")
    op.drop_column("charges", "shard_id")
