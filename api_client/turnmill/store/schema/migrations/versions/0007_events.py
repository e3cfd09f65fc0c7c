"""What happened stands in a table of its own, numbered within each session."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp, db_now

revision = "0007"
down_revision = "0006"
phase = "pre"
serves = "0001"


def upgrade() -> None:
    """Apply; code of before goes on, and ends turns without events."""
    op.add_column(
        "sessions", sa.Column("events", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "events",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("place", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("session_id", "n", name="pk_events"),
    )
    unplaced, placed = sa.text("place IS NULL"), sa.text("place IS NOT NULL")
    op.create_index(
        "ix_events_unplaced",
        "events",
        ["session_id", "n"],
        postgresql_where=unplaced,
        sqlite_where=unplaced,
    )
    op.create_index(
        "uq_events_place",
        "events",
        ["place"],
        unique=True,
        postgresql_where=placed,
        sqlite_where=placed,
    )
    op.create_table(
        "event_log",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last_place", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("pruned_place", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("pruned_until", Timestamp(), nullable=True),
        sa.Column("complete_since", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_event_log"),
        sa.CheckConstraint("id = 1", name=op.f("ck_event_log_one_row")),
    )
    op.execute("INSERT INTO event_log (id) VALUES (1)")
    op.create_table(
        "event_readers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("parked", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("missed", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("missed_at", Timestamp(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("name", name="pk_event_readers"),
    )


def downgrade() -> None:
    """Go back."""
    for table in ("event_readers", "event_log", "events"):
        op.drop_table(table)
    op.drop_column("sessions", "events")  # in place: a new table would take its turns along
