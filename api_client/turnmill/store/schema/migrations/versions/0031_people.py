"""Several people take part in a session, read what happened in one order, and talk beside it."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0031"
down_revision = "0030"
phase = "pre"
serves = "0007"

_OPEN = sa.text("open > 0")
_KEYED = sa.text("idempotency_key IS NOT NULL")


def upgrade() -> None:
    """Apply; code of before goes on, and knows no participants."""
    op.create_table(
        "shared_sessions",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("last_n", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_shared_sessions"),
        _of_session("shared_sessions"),
    )
    op.create_table(
        "participants",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("read_n", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("joined_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("session_id", "name", name="pk_participants"),
        _of_session("participants"),
        sa.CheckConstraint(
            "role IN ('member', 'observer', 'owner')", name=op.f("ck_participants_role_known")
        ),
    )
    op.create_index("ix_participants_name", "participants", ["name"])
    _create_log()
    _create_notes()
    op.create_table(
        "turn_senders",
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("turn_id", name="pk_turn_senders"),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name="fk_turn_senders_turn_id", ondelete="CASCADE"
        ),
        _of_session("turn_senders"),
    )
    op.create_index("ix_turn_senders_name", "turn_senders", ["name"])
    op.create_index("ix_turn_senders_session_id", "turn_senders", ["session_id"])


def downgrade() -> None:
    """Undo."""
    for table in ("turn_senders", "notes", "shared_log", "participants", "shared_sessions"):
        op.drop_table(table)


def _of_session(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["session_id"], ["sessions.id"], name=f"fk_{table}_session_id", ondelete="CASCADE"
    )


def _create_log() -> None:
    op.create_table(
        "shared_log",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("open", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("session_id", "n", name="pk_shared_log"),
        _of_session("shared_log"),
        sa.CheckConstraint("open BETWEEN 0 AND 2", name=op.f("ck_shared_log_open_known")),
    )
    op.create_index(
        "ix_shared_log_open",
        "shared_log",
        ["session_id"],
        postgresql_where=_OPEN,
        sqlite_where=_OPEN,
    )


def _create_notes() -> None:
    op.create_table(
        "notes",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("after_seq", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("content", Json, nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("session_id", "n", name="pk_notes"),
        _of_session("notes"),
    )
    op.create_index(
        "uq_notes_keyed",
        "notes",
        ["session_id", "idempotency_key"],
        unique=True,
        postgresql_where=_KEYED,
        sqlite_where=_KEYED,
    )
    op.create_index("ix_notes_after_seq", "notes", ["session_id", "after_seq", "n"])
    op.create_index("ix_notes_sender", "notes", ["sender"])
