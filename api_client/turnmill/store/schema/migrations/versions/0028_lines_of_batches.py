"""Lines of a batch stand before any of them runs; how far a batch is, is counted in rows."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0028"
down_revision = "0027"
phase = "pre"
serves = "0007"

_MONEY = sa.Numeric(20, 10)
_FED = sa.text("turn_id IS NOT NULL")
_KEYED = sa.text("key IS NOT NULL")
_WORDS = {
    "state": "'cancelled', 'completed', 'completed_with_errors', 'expired', 'failed', 'paused',"
    " 'running', 'submitting'",
    "mode": "'flex', 'live', 'native'",
}

# All lines of what stands already are turns.
_BRING_ALONG = """
UPDATE batches SET fed_line = last_line,
    sealed_at = CASE WHEN total IS NOT NULL THEN created_at END,
    state = CASE
        WHEN cancelled_at IS NOT NULL THEN 'cancelled'
        WHEN total IS NULL THEN 'submitting'
        WHEN EXISTS (SELECT 1 FROM turns t WHERE t.batch_id = batches.id
            AND t.state NOT IN ('succeeded', 'failed', 'dead', 'cancelled', 'expired'))
            THEN 'running'
        WHEN NOT EXISTS (SELECT 1 FROM turns t WHERE t.batch_id = batches.id
            AND t.state <> 'succeeded') THEN 'completed'
        WHEN EXISTS (SELECT 1 FROM turns t WHERE t.batch_id = batches.id
            AND t.state = 'succeeded') THEN 'completed_with_errors'
        ELSE 'failed' END
"""


def _added() -> tuple[sa.Column[object], ...]:
    """Return what a batch is told by now."""
    return (
        sa.Column("state", sa.Text(), nullable=False, server_default="submitting"),
        sa.Column("mode", sa.Text(), nullable=False, server_default="live"),
        sa.Column("mode_because", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("settings", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("defaults", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("reuse", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("deadline", Timestamp(), nullable=True),
        sa.Column("max_cost_usd", _MONEY, nullable=True),
        sa.Column("paused_because", sa.Text(), nullable=True),
        sa.Column("fed_line", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("sealed_at", Timestamp(), nullable=True),
        sa.Column("ended_at", Timestamp(), nullable=True),
    )


def upgrade() -> None:
    """Apply; code of before goes on, and makes a turn of each line as it reads it."""
    for column in _added():
        op.add_column("batches", column)
    op.execute(_BRING_ALONG)
    if op.get_bind().dialect.name == "postgresql":
        for name, words in _WORDS.items():
            op.create_check_constraint(
                op.f(f"ck_batches_{name}_known"), "batches", f"{name} IN ({words})"
            )
    _create_lines()
    _create_tallies()
    _create_shards()


def _of_batch() -> sa.Column[object]:
    return sa.Column("batch_id", sa.Uuid(), nullable=False)


def _key_of(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["batch_id"], ["batches.id"], name=f"fk_{table}_batch_id", ondelete="CASCADE"
    )


def _create_lines() -> None:
    op.create_table(
        "batch_lines",
        _of_batch(),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("content", Json, nullable=True),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("wave", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("turn_id", sa.Uuid(), nullable=True),
        sa.Column("reused_from", sa.Uuid(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("bound_usd", _MONEY, nullable=True),
        sa.PrimaryKeyConstraint("batch_id", "line", name="pk_batch_lines"),
        _key_of("batch_lines"),
    )
    op.create_index(
        "ix_batch_lines_turn_id",
        "batch_lines",
        ["turn_id"],
        postgresql_where=_FED,
        sqlite_where=_FED,
    )
    op.create_index(
        "ix_batch_lines_key", "batch_lines", ["key"], postgresql_where=_KEYED, sqlite_where=_KEYED
    )


def _create_tallies() -> None:
    op.create_table(
        "batch_tallies",
        _of_batch(),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("cost_usd", _MONEY, nullable=False, server_default="0"),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("batch_id", "part", "state", name="pk_batch_tallies"),
        _key_of("batch_tallies"),
        postgresql_with={"fillfactor": "50"},
    )


def _create_shards() -> None:
    op.create_table(
        "batch_shards",
        sa.Column("id", sa.Uuid(), nullable=False),
        _of_batch(),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("tokens", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("id", name="pk_batch_shards"),
        sa.UniqueConstraint("batch_id", "n", name="uq_batch_shards_batch_id_n"),
        _key_of("batch_shards"),
    )


def downgrade() -> None:
    """Undo; lines that were not fed yet are lost, and go in again with their file."""
    for table in ("batch_shards", "batch_tallies", "batch_lines"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for name in _WORDS:
            op.drop_constraint(op.f(f"ck_batches_{name}_known"), "batches")
    for column in reversed(_added()):
        op.drop_column("batches", column.name)
