"""Of those who read one reader's events, one at a time does; what it cannot pass is given up."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp

revision = "0009"
down_revision = "0008"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before reads on, and holds nothing."""
    op.add_column("event_readers", sa.Column("owner", sa.Text(), nullable=True))
    op.add_column(
        "event_readers", sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("event_readers", sa.Column("free_at", Timestamp(), nullable=True))
    op.add_column(
        "event_readers", sa.Column("tries", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column(
        "event_readers", sa.Column("skipped", sa.BigInteger(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("event_readers") as batch_op:
        for column in ("owner", "fence", "free_at", "tries", "skipped"):
            batch_op.drop_column(column)
