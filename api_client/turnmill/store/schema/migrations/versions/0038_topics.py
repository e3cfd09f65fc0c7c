"""What sessions are about has tables."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0038"
down_revision = "0037"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before finds no topics, and removes what goes with a session by its key."""
    op.create_table(
        "topic_runs",
        sa.Column("n", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("since", Timestamp(), nullable=False),
        sa.Column("sessions", sa.BigInteger(), nullable=False),
        sa.Column("sampled", sa.Integer(), nullable=False),
        sa.Column("unreadable", sa.Integer(), nullable=False),
        sa.Column("users", sa.Integer(), nullable=False),
        sa.Column("components", sa.Integer(), nullable=False),
        sa.Column("last_topic", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("n", name="pk_topic_runs"),
    )
    op.create_table(
        "topics",
        sa.Column("id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("words", Json, nullable=True),
        sa.Column("first_run", sa.BigInteger(), nullable=False),
        sa.Column("last_run", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_topics"),
    )
    op.create_table(
        "session_topics",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("topic_id", sa.BigInteger(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("run", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name="fk_session_topics_session_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", name="pk_session_topics"),
    )
    op.create_index("ix_session_topics_topic_id", "session_topics", ["topic_id"])


def downgrade() -> None:
    """Undo."""
    for table in ("session_topics", "topics", "topic_runs"):
        op.drop_table(table)
