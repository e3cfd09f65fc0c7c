"""Users can be erased, and held; figures outlive the rows that they were made of."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0033"
down_revision = "0032"
phase = "pre"
serves = "0007"

_STATES = "'admitted', 'erased', 'erasing', 'waiting'"
_BANNED = "state IN ('erasing', 'erased')"
# What is a user's, by the column that names him.
_BANNED_IN = {
    "attachments": "user_id",
    "batch_lines": "user_id",
    "data_keys": "user_id",
    "notes": "sender",
    "participants": "name",
    "sessions": "user_id",
    "turn_senders": "name",
}
# Once for a statement, and without erasures one look at an empty index.
_REFUSE = """
CREATE FUNCTION refuse_erased_{column}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = "{schema}", pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM erasures WHERE {banned}) AND EXISTS (
        SELECT FROM given JOIN erasures e
            ON e.user_hash = encode(sha256(convert_to('turnmill:user:' || given.{column}, 'UTF8')), 'hex')
        WHERE e.{banned}
    ) THEN
        RAISE EXCEPTION 'the user was erased' USING ERRCODE = 'TM001';
    END IF;
    RETURN NULL;
END
$$
"""
_ON = """
CREATE TRIGGER refuse_erased AFTER INSERT ON {table}
REFERENCING NEW TABLE AS given FOR EACH STATEMENT EXECUTE FUNCTION refuse_erased_{column}()
"""
_ON_SQLITE = """
CREATE TRIGGER refuse_erased_{table} BEFORE INSERT ON {table}
WHEN NEW.{column} IS NOT NULL AND EXISTS (
    SELECT 1 FROM erasures WHERE user_hash = turnmill_hash_of_user(NEW.{column}) AND {banned}
) BEGIN SELECT RAISE(ABORT, 'the user was erased'); END
"""
_FIGURES = (
    *("turns", "succeeded", "failed", "dead", "cancelled", "expired", "attempts", "retries"),
    *("input_tokens", "output_tokens", "cached_tokens"),
)


def upgrade() -> None:
    """Apply; code of before deletes on, and its deletions take their figures along."""
    op.add_column("tombstones", sa.Column("user_hash", sa.Text(), nullable=True))
    _index("ix_tombstones_user_hash", "tombstones", "user_hash", "user_hash IS NOT NULL")
    op.create_table(
        "erasures",
        sa.Column("user_hash", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("requested_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("due_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("begun_at", Timestamp(), nullable=True),
        sa.Column("ended_at", Timestamp(), nullable=True),
        sa.Column("unaware", Json, nullable=True),
        sa.Column("rows", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("left_behind", Json, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("streams_until", Timestamp(), nullable=True),
        sa.Column("shredded", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("readable_until", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("user_hash", name="pk_erasures"),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_erasures_state_known")),
        sa.CheckConstraint(
            "(state IN ('waiting', 'erasing')) = (user_id IS NOT NULL)",
            name=op.f("ck_erasures_names_none"),
        ),
    )
    _index("ix_erasures_open", "erasures", "due_at", "user_id IS NOT NULL")
    op.create_table(
        "holds",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("user_id", name="pk_holds"),
    )
    op.create_table(
        "usage_gone",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _FIGURES),
        sa.Column("cost_usd", sa.Numeric(20, 10), nullable=False),
        sa.Column("unpriced_attempts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "provider", "model", name="pk_usage_gone"),
    )
    for statement in _triggers():
        op.execute(statement)


def downgrade() -> None:
    """Undo."""
    on_postgres = op.get_bind().dialect.name == "postgresql"
    for table in _banned():
        name = f"refuse_erased ON {table}" if on_postgres else f"refuse_erased_{table}"
        op.execute(f"DROP TRIGGER {name}")
    for column in sorted(set(_banned().values())) if on_postgres else ():
        op.execute(f"DROP FUNCTION refuse_erased_{column}()")
    for table in ("usage_gone", "holds", "erasures"):
        op.drop_table(table)
    op.drop_index("ix_tombstones_user_hash", table_name="tombstones")
    op.drop_column("tombstones", "user_hash")


def _index(name: str, table: str, column: str, where: str) -> None:
    op.create_index(
        name, table, [column], postgresql_where=sa.text(where), sqlite_where=sa.text(where)
    )


def _triggers() -> list[str]:
    conn = op.get_bind()
    banned = _banned()
    if conn.dialect.name != "postgresql":
        return [_ON_SQLITE.format(table=one, column=banned[one], banned=_BANNED) for one in banned]
    schema = conn.scalar(sa.text("SELECT current_schema()"))
    made = [
        _REFUSE.format(schema=schema, column=column, banned=_BANNED)
        for column in sorted(set(banned.values()))
    ]
    return [*made, *(_ON.format(table=one, column=banned[one]) for one in banned)]


def _banned() -> dict[str, str]:
    """Return the tables that there are of those that hold what users bring."""
    there = sa.inspect(op.get_bind())
    return {table: column for table, column in _BANNED_IN.items() if there.has_table(table)}
