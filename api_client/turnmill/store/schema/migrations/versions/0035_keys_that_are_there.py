"""Keys that callers may give, and mostly do not, are in no index where they are not given.

Every move of a turn writes an entry into each index of its row, of the one that holds nothing but
NULLs too: these were a tenth of what a claim and a settle cost the database.
"""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
phase = "pre"
serves = "0007"

#: Index, table, columns, the one that is mostly not given, and the constraint that it stands for.
_KEYS = (
    ("uq_sessions_keyed", "sessions", ["key"], "key", "uq_sessions_key"),
    (
        "uq_turns_keyed",
        "turns",
        ["session_id", "idempotency_key"],
        "idempotency_key",
        "uq_turns_session_id_idempotency_key",
    ),
    (
        "uq_turns_of_batch",
        "turns",
        ["batch_id", "batch_line"],
        "batch_id",
        "uq_turns_batch_id_batch_line",
    ),
)


def upgrade() -> None:
    """Apply; code of before goes on. A key is unique by one or the other at every moment.

    A file of SQLite keeps its constraints as well: taking one away would be writing its table anew.
    """
    for name, table, columns, given, constraint in _KEYS:
        there = sa.text(f"{given} IS NOT NULL")
        op.create_index(
            name, table, columns, unique=True, postgresql_where=there, sqlite_where=there
        )
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")


def downgrade() -> None:
    """Undo."""
    for name, table, columns, _, constraint in _KEYS:
        if op.get_bind().dialect.name == "postgresql":
            op.create_unique_constraint(constraint, table, columns)
        op.drop_index(name, table)
