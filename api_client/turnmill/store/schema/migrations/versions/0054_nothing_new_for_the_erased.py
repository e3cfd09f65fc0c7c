"""Whoever was erased gets no budget, batch, secret for reuse or retention of his own again."""

import sqlalchemy as sa
from alembic import op

revision = "0054"
down_revision = "0053"
phase = "pre"
serves = "0007"

_BANNED = "state IN ('erasing', 'erased')"
# What is a user's, by the column that names him, beside what migration 0033 has; and which rows.
_BANNED_IN = {
    "batches": ("user_id", "TRUE"),
    "budgets": ("name", "NEW.scope = 'user'"),
    "reuse_keys": ("user_id", "TRUE"),
    "user_retention": ("user_id", "TRUE"),
}
# As those of 0033, but that a budget is a user's where its scope says so.
_REFUSE_BUDGET = """
CREATE FUNCTION refuse_erased_budget() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = "{schema}", pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM erasures WHERE {banned}) AND EXISTS (
        SELECT FROM given JOIN erasures e
            ON e.user_hash = encode(sha256(convert_to('turnmill:user:' || given.name, 'UTF8')), 'hex')
        WHERE given.scope = 'user' AND e.{banned}
    ) THEN
        RAISE EXCEPTION 'the user was erased' USING ERRCODE = 'TM001';
    END IF;
    RETURN NULL;
END
$$
"""
_ON = """
CREATE TRIGGER refuse_erased AFTER INSERT ON {table}
REFERENCING NEW TABLE AS given FOR EACH STATEMENT EXECUTE FUNCTION {function}()
"""
_ON_SQLITE = """
CREATE TRIGGER refuse_erased_{table} BEFORE INSERT ON {table}
WHEN NEW.{column} IS NOT NULL AND {which} AND EXISTS (
    SELECT 1 FROM erasures WHERE user_hash = turnmill_hash_of_user(NEW.{column}) AND {banned}
) BEGIN SELECT RAISE(ABORT, 'the user was erased'); END
"""


def upgrade() -> None:
    """Apply; code of before is refused, as it is in the other tables."""
    conn = op.get_bind()
    if conn.dialect.name != "postgresql":
        for table, (column, which) in _BANNED_IN.items():
            op.execute(_ON_SQLITE.format(table=table, column=column, which=which, banned=_BANNED))
        return
    schema = conn.scalar(sa.text("SELECT current_schema()"))
    op.execute(_REFUSE_BUDGET.format(schema=schema, banned=_BANNED))
    for table in _BANNED_IN:
        function = "refuse_erased_budget" if table == "budgets" else "refuse_erased_user_id"
        op.execute(_ON.format(table=table, function=function))


def downgrade() -> None:
    """Undo."""
    on_postgres = op.get_bind().dialect.name == "postgresql"
    for table in _BANNED_IN:
        name = f"refuse_erased ON {table}" if on_postgres else f"refuse_erased_{table}"
        op.execute(f"DROP TRIGGER {name}")
    if on_postgres:
        op.execute("DROP FUNCTION refuse_erased_budget()")
