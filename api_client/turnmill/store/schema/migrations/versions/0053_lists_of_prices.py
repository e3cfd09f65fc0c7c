"""Workers say which models they have prices of their own for."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0053"
down_revision = "0052"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; workers of before say nothing, and their prices are known to them alone."""
    op.create_table(
        "price_lists",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("models", Json, nullable=False),
        sa.Column("seen_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_price_lists"),
    )


def downgrade() -> None:
    """Undo; workers say it again."""
    op.drop_table("price_lists")
