"""Who did what to whose data: written down, never changed, and chained."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp

revision = "0034"
down_revision = "0033"
phase = "pre"
serves = "0007"

_OF_SOMEBODY = sa.text("subject IS NOT NULL")

# Rows are what the login that writes them says, and stay so. Only `audit_purge` says `purging`, and
# the rights to remove rows are its owner's.
_KEEP = """
CREATE FUNCTION audit_keep() RETURNS trigger
LANGUAGE plpgsql SET search_path = "{schema}", pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.login <> session_user THEN
            RAISE EXCEPTION 'the audit log is written in one''s own name'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND current_setting('turnmill.purging', true) = 'yes' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit log is not changed' USING ERRCODE = 'insufficient_privilege';
END
$$
"""
_KEEP_WHOLE = """
CREATE FUNCTION audit_keep_whole() RETURNS trigger
LANGUAGE plpgsql SET search_path = "{schema}", pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is not changed' USING ERRCODE = 'insufficient_privilege';
END
$$
"""
# Of whole groups that were closed a month ago or earlier, whoever asks.
_PURGE = """
CREATE FUNCTION audit_purge(upto bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = "{schema}", pg_temp AS $$
DECLARE gone bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM audit_heads WHERE last_id = upto
            AND at < clock_timestamp() - interval '30 days') THEN
        RAISE EXCEPTION 'the audit log is kept for a month' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM set_config('turnmill.purging', 'yes', true);
    DELETE FROM audit_log WHERE id <= upto;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('turnmill.purging', '', true);
    RETURN gone;
END
$$
"""
# What default privileges gave away with the tables; and who writes rows may have old ones removed.
_GRANT = """
DO $$
DECLARE of_role text;
BEGIN
    FOR of_role IN SELECT DISTINCT pg_get_userbyid(a.grantee) FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = to_regclass('audit_log') AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE ON audit_log, audit_heads FROM %%I', of_role);
        EXECUTE format('REVOKE UPDATE ON audit_subjects FROM %%I', of_role);
        EXECUTE format('GRANT EXECUTE ON FUNCTION audit_purge(bigint) TO %%I', of_role);
    END LOOP;
END
$$
"""
# As `ask_…(uuid)`, which stays; and who asks is noted.
_ASK = """
CREATE FUNCTION ask_{verb}(turn uuid, by text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = "{schema}", pg_temp AS $$
DECLARE asked boolean;
BEGIN
    asked := ask_{verb}(turn);
    IF asked THEN
        UPDATE wishes SET asked_by = left(by, 200) WHERE turn_id = turn;
    END IF;
    RETURN asked;
END
$$
"""
# Who could ask before, can.
_LET_ASK = """
DO $$
DECLARE of_role text;
BEGIN
    FOR of_role IN SELECT DISTINCT pg_get_userbyid(a.grantee) FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.oid = to_regprocedure('ask_{verb}(uuid)') AND a.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION ask_{verb}(uuid, text) TO %%I', of_role);
    END LOOP;
END
$$
"""


def upgrade() -> None:
    """Apply; code of before writes nothing down."""
    op.add_column("wishes", sa.Column("asked_by", sa.Text(), nullable=True))
    _create_tables()
    conn = op.get_bind()
    if conn.dialect.name != "postgresql":
        return
    schema = conn.scalar(sa.text("SELECT current_schema()"))
    for statement in (_KEEP, _KEEP_WHOLE, _PURGE):
        conn.exec_driver_sql(statement.format(schema=schema))
    for table in ("audit_log", "audit_heads"):
        inserted = "INSERT OR " if table == "audit_log" else ""
        conn.exec_driver_sql(
            f"CREATE TRIGGER keep BEFORE {inserted}UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION audit_keep()"
        )
        conn.exec_driver_sql(
            f"CREATE TRIGGER keep_whole BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_keep_whole()"
        )
    conn.exec_driver_sql("REVOKE ALL ON FUNCTION audit_purge(bigint) FROM PUBLIC")
    conn.exec_driver_sql(_GRANT)
    for verb in ("cancel", "retry"):
        conn.exec_driver_sql(_ASK.format(verb=verb, schema=schema))
        conn.exec_driver_sql(f"REVOKE ALL ON FUNCTION ask_{verb}(uuid, text) FROM PUBLIC")
        conn.exec_driver_sql(_LET_ASK.format(verb=verb))


def downgrade() -> None:
    """Undo; the log goes with its tables."""
    is_postgres = op.get_bind().dialect.name == "postgresql"
    if is_postgres:
        for verb in ("cancel", "retry"):
            op.execute(f"DROP FUNCTION ask_{verb}(uuid, text)")
    op.drop_table("audit_subjects")
    op.drop_table("audit_heads")
    op.drop_index("ix_audit_log_subject", table_name="audit_log")
    op.drop_table("audit_log")
    if is_postgres:
        for function in ("audit_purge(bigint)", "audit_keep()", "audit_keep_whole()"):
            op.execute(f"DROP FUNCTION {function}")
    with op.batch_alter_table("wishes") as batch_op:
        batch_op.drop_column("asked_by")


def _create_tables() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", Timestamp(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("objects", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("figures", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("after", sa.BigInteger(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index(
        "ix_audit_log_subject",
        "audit_log",
        ["subject", "id"],
        postgresql_where=_OF_SOMEBODY,
        sqlite_where=_OF_SOMEBODY,
    )
    op.create_table(
        "audit_heads",
        sa.Column("n", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("rows_digest", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("at", Timestamp(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("n", name="pk_audit_heads"),
    )
    op.create_table(
        "audit_subjects",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_audit_subjects"),
        sa.UniqueConstraint("user_id", name="uq_audit_subjects_user_id"),
    )
