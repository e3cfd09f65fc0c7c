"""What was spent by those whose rows are gone stays: by day, and what comes back of it later."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0049"
down_revision = "0048"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before goes on, and writes down nothing of it."""
    op.create_table(
        "spent_gone",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("day", sa.Date(), nullable=False),
        *_texts("provider", "model", "tier"),
        *_counts("calls", "input_tokens", "cached_tokens", "output_tokens"),
        sa.Column("cost_usd", sa.Numeric(20, 10), nullable=False),
        *_counts("unpriced", "estimated"),
    )
    op.create_index("ix_spent_gone_day", "spent_gone", ["day"])
    op.create_table(
        "calls_gone",
        sa.Column("id", sa.Uuid(), primary_key=True),
        *_texts("kind"),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        *_counts("fence"),
        sa.Column("shard_id", sa.Uuid(), nullable=True),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        *_texts("provider", "model", "lane", "tag"),
        sa.Column("budget_ids", Json, nullable=False),
        sa.Column("gone_at", Timestamp(), nullable=False, server_default=db_now()),
    )
    for name in ("turn_id", "shard_id", "gone_at"):
        op.create_index(f"ix_calls_gone_{name}", "calls_gone", [name])


def downgrade() -> None:
    """Undo; what is written there is lost."""
    op.drop_table("calls_gone")
    op.drop_table("spent_gone")


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]
