"""Rows and groups of the audit log are of the time and the place at which they are written."""

import sqlalchemy as sa
from alembic import op

revision = "0056"
down_revision = "0055"
phase = "pre"
serves = "0007"

# Groups that seem old may be purged, so nobody may say how old his is. Between the look at the
# clock and the row may lie a wait for a lock; an hour is more than any, and less than a month.
_AT_NOW = """
CREATE FUNCTION audit_at_now() RETURNS trigger
LANGUAGE plpgsql SET search_path = "{schema}", pg_temp AS $$
BEGIN
    IF abs(extract(epoch FROM clock_timestamp() - NEW.at)) > 3600 THEN
        RAISE EXCEPTION 'the audit log is written in its own time'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$
"""
# The highest number there is would be in front of all to come, and no group of theirs be closed.
_IN_PLACE = """
CREATE FUNCTION audit_in_place() RETURNS trigger
LANGUAGE plpgsql SET search_path = "{schema}", pg_temp AS $$
BEGIN
    IF NEW.id <> currval(pg_get_serial_sequence('"{schema}".audit_log', 'id')) THEN
        RAISE EXCEPTION 'the audit log is written in its own order'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
EXCEPTION WHEN object_not_in_prerequisite_state THEN  -- no number was drawn here at all
    RAISE EXCEPTION 'the audit log is written in its own order'
        USING ERRCODE = 'insufficient_privilege';
END
$$
"""
_ON = {"audit_at_now": ("audit_log", "audit_heads"), "audit_in_place": ("audit_log",)}


def upgrade() -> None:
    """Apply; code of before writes so. SQLite has no roles to refuse."""
    conn = op.get_bind()
    if conn.dialect.name != "postgresql":
        return
    schema = conn.scalar(sa.text("SELECT current_schema()"))
    for statement in (_AT_NOW, _IN_PLACE):
        conn.exec_driver_sql(statement.format(schema=schema))
    for function, tables in _ON.items():
        for table in tables:
            op.execute(
                f"CREATE TRIGGER {function} BEFORE INSERT ON {table}"
                f" FOR EACH ROW EXECUTE FUNCTION {function}()"
            )


def downgrade() -> None:
    """Undo; what was written stays."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for function, tables in _ON.items():
        for table in tables:
            op.execute(f"DROP TRIGGER {function} ON {table}")
        op.execute(f"DROP FUNCTION {function}()")
