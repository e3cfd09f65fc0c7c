"""Shards of batches stand at vendors: what is about to be done there is noted before it is done."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp

revision = "0030"
down_revision = "0029"
phase = "pre"
serves = "0007"

_BEFORE = "kind IN ('send', 'check', 'resume', 'transcribe', 'speak')"
_SINCE = "kind IN ('send', 'check', 'resume', 'transcribe', 'speak', 'batch')"
_NAME = "ck_attempts_kind_known"
_OPEN = sa.text("due_at IS NOT NULL")
_IN_BATCH = sa.text("waits_for = 'batch'")


def _added() -> tuple[sa.Column[Any], ...]:
    texts = ("endpoint", "stored", "ref", "status")
    return (
        *(sa.Column(name, sa.Text(), nullable=False, server_default="") for name in texts),
        sa.Column("bound_usd", sa.Numeric(20, 10), nullable=True),
        sa.Column("due_at", Timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("outputs", Json, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("error_code", sa.Text(), nullable=True),
        *(
            sa.Column(name, Timestamp(), nullable=True)
            for name in ("asked_at", "begun_at", "ended_at")
        ),
    )


def upgrade() -> None:
    """Apply; code of before goes on, and knows no shards."""
    for column in _added():
        op.add_column("batch_shards", column)
    op.create_index(
        "ix_batch_shards_due_at",
        "batch_shards",
        ["due_at"],
        postgresql_where=_OPEN,
        sqlite_where=_OPEN,
    )
    op.create_index(
        "ix_turns_in_batch",
        "turns",
        ["batch_id", "native_ref", "id"],
        postgresql_where=_IN_BATCH,
        sqlite_where=_IN_BATCH,
    )
    op.add_column(
        "batches", sa.Column("on_leftover", sa.Text(), nullable=False, server_default="live")
    )
    _bound(old=_BEFORE, new=_SINCE)


def downgrade() -> None:
    """Undo; what a vendor answered in a batch is a call like any other."""
    op.execute("UPDATE attempts SET kind = 'send' WHERE kind = 'batch'")
    _bound(old=_SINCE, new=_BEFORE)
    op.drop_column("batches", "on_leftover")
    op.drop_index("ix_turns_in_batch", table_name="turns")
    op.drop_index("ix_batch_shards_due_at", table_name="batch_shards")
    for column in reversed(_added()):
        op.drop_column("batch_shards", column.name)


def _bound(*, old: str, new: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        _edit_schema(old=old, new=new)
        return
    op.execute(f"ALTER TABLE attempts DROP CONSTRAINT {_NAME}")
    # Rows are looked through without keeping anybody from writing others.
    op.execute(f"ALTER TABLE attempts ADD CONSTRAINT {_NAME} CHECK ({new}) NOT VALID")
    op.execute(f"ALTER TABLE attempts VALIDATE CONSTRAINT {_NAME}")


def _edit_schema(*, old: str, new: str) -> None:
    """Change the text of the table, as SQLite's documentation says: it alters no constraint.

    https://www.sqlite.org/lang_altertable.html#otheralter
    """
    conn = op.get_bind()
    version = conn.exec_driver_sql("PRAGMA schema_version").scalar_one()
    conn.exec_driver_sql("PRAGMA writable_schema = ON")
    conn.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?)"
        " WHERE type = 'table' AND name = 'attempts'",
        (old, new),
    )
    conn.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    conn.exec_driver_sql("PRAGMA writable_schema = OFF")
