"""The tokens of an attempt, and so of its turn, may be unknown."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
phase = "pre"
serves = "0001"

_TABLES = ("attempts", "turns")
_COLUMNS = ("input_tokens", "output_tokens", "cached_tokens")


def upgrade() -> None:
    """Apply."""
    _alter(nullable=True)


def downgrade() -> None:
    """Undo; what is unknown counts as 0 again."""
    for table in _TABLES:
        for column in _COLUMNS:
            op.execute(f"UPDATE {table} SET {column} = 0 WHERE {column} IS NULL")
    _alter(nullable=False)


def _alter(*, nullable: bool) -> None:
    if op.get_bind().dialect.name == "sqlite":
        _edit_schema(nullable=nullable)
        return
    for table in _TABLES:
        for column in _COLUMNS:
            op.alter_column(table, column, nullable=nullable, existing_type=sa.BigInteger())


def _edit_schema(*, nullable: bool) -> None:
    """Change the text of the tables, as SQLite's documentation says for NOT NULL.

    It cannot alter a column, and a table that is made anew would have to be given its indexes and
    checks once more: https://www.sqlite.org/lang_altertable.html#otheralter
    """
    conn = op.get_bind()
    version = conn.exec_driver_sql("PRAGMA schema_version").scalar_one()
    conn.exec_driver_sql("PRAGMA writable_schema = ON")
    for column in _COLUMNS:
        texts = [f"{column} BIGINT DEFAULT '0' NOT NULL", f"{column} BIGINT DEFAULT '0'"]
        old, new = texts if nullable else reversed(texts)
        conn.exec_driver_sql(
            "UPDATE sqlite_master SET sql = replace(sql, ?, ?)"
            f" WHERE type = 'table' AND name IN {_TABLES}",
            (old, new),
        )
    conn.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    conn.exec_driver_sql("PRAGMA writable_schema = OFF")
