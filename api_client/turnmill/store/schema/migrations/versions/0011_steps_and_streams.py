"""A turn may take several steps, be watched while it is answered, and stop half-way with a part."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0011"
down_revision = "0010"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before goes on, and knows no tools: they are for when all workers do."""
    op.add_column(
        "turns", sa.Column("stream", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("turns", sa.Column("step", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("turns", sa.Column("step_ref", sa.Text(), nullable=False, server_default=""))
    op.add_column(
        "turns", sa.Column("keep_partial", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("attempts", sa.Column("step", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("attempts", sa.Column("first_token_ms", sa.Integer(), nullable=True))
    op.add_column(
        "attempts", sa.Column("estimated", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column(
        "messages", sa.Column("partial", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_table(
        "tool_calls",
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("effects", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("approval", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("runs", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("decision", Json, nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("started_at", Timestamp(), nullable=True),
        sa.Column("ended_at", Timestamp(), nullable=True),
        sa.Column("expires_at", Timestamp(), nullable=True),
        sa.Column("made_in", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name="fk_tool_calls_turn_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("turn_id", "position", name="pk_tool_calls"),
        sa.CheckConstraint(
            "state IN ('approval', 'caller', 'done', 'expired', 'failed', 'pending', 'rejected',"
            " 'running', 'unknown')",
            name=op.f("ck_tool_calls_state_known"),
        ),
        sa.CheckConstraint(
            "effects IN ('at_most_once', 'idempotent', 'none')",
            name=op.f("ck_tool_calls_effects_known"),
        ),
    )
    waiting = sa.text("state IN ('approval', 'caller')")
    op.create_index(
        "ix_tool_calls_waiting",
        "tool_calls",
        ["session_id", "turn_id"],
        postgresql_where=waiting,
        sqlite_where=waiting,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("tool_calls")
    op.drop_column("messages", "partial")
    for column in ("estimated", "first_token_ms", "step"):
        op.drop_column("attempts", column)
    for column in ("keep_partial", "step_ref", "step", "stream"):
        op.drop_column("turns", column)
