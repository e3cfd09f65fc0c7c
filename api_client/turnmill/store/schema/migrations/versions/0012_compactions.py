"""What is left out of a long conversation when a model is asked, beside what was said in it."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0012"
down_revision = "0011"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before goes on, and sends what it always did."""
    op.create_table(
        "compactions",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("up_to_seq", sa.BigInteger(), nullable=False),
        sa.Column("turns", sa.BigInteger(), nullable=False),
        sa.Column("summary", Json, nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_usd", sa.Numeric(20, 10), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_compactions_session_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_id", "n", name="pk_compactions"),
        sa.CheckConstraint(
            "kind IN ('summarise', 'truncate')", name=op.f("ck_compactions_kind_known")
        ),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("compactions")
