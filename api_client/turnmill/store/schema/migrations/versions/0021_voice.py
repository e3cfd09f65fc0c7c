"""Attempts may put sounds into words, and words into sounds; a turn may say how it is answered."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
phase = "pre"
serves = "0007"

_BEFORE = "kind IN ('send', 'check', 'resume')"
_SINCE = "kind IN ('send', 'check', 'resume', 'transcribe', 'speak')"
_NAME = "ck_attempts_kind_known"


def upgrade() -> None:
    """Apply; code of before goes on, and hears nothing."""
    op.add_column("turns", sa.Column("reply_as", sa.Text(), nullable=True))
    _bound(old=_BEFORE, new=_SINCE)


def downgrade() -> None:
    """Undo; what was such an attempt is a call like any other."""
    op.execute("UPDATE attempts SET kind = 'send' WHERE kind IN ('transcribe', 'speak')")
    _bound(old=_SINCE, new=_BEFORE)
    op.drop_column("turns", "reply_as")


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
