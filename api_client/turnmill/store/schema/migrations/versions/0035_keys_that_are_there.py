"""Keys that callers may give, and mostly do not, are in no index where they are not given.

Every move of a turn writes an entry into each index of its row, of the one that holds nothing but
NULLs too: these were a tenth of what a claim and a settle cost the database.
"""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0032"
phase = "pre"
serves = "0007"

#: Index, table, columns, and the constraint that it stands for.
_KEYS = (
    ("uq_sessions_keyed", "sessions", ["key"], "uq_sessions_key"),
    (
        "uq_turns_keyed",
        "turns",
        ["session_id", "idempotency_key"],
        "uq_turns_session_id_idempotency_key",
    ),
    ("uq_turns_of_batch", "turns", ["batch_id", "batch_line"], "uq_turns_batch_id_batch_line"),
)


def upgrade() -> None:
    """Apply; code of before goes on. A key is unique by one or the other at every moment.

    A file of SQLite keeps its constraints as well: taking one away would be writing its table anew.
    """
    if op.get_bind().dialect.name != "postgresql":
        for name, table, columns, _ in _KEYS:
            op.create_index(name, table, columns, unique=True, sqlite_where=_given(columns))
        return
    with op.get_context().autocommit_block():
        for name, table, columns, _ in _KEYS:
            # An attempt that was interrupted leaves an index that is not valid.
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)
            op.create_index(
                name,
                table,
                columns,
                unique=True,
                postgresql_where=_given(columns),
                postgresql_concurrently=True,
            )
    for _, table, _, constraint in _KEYS:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {constraint}")


def downgrade() -> None:
    """Undo."""
    for name, table, columns, constraint in _KEYS:
        if op.get_bind().dialect.name == "postgresql":
            op.create_unique_constraint(constraint, table, columns)
        op.drop_index(name, table)


def _given(columns: list[str]) -> sa.TextClause:
    return sa.text(f"{columns[-1]} IS NOT NULL")
