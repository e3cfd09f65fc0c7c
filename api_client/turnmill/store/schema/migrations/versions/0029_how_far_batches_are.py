"""How far a batch is, is counted by code as well, and found without a look at all of its turns."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp, db_now

revision = "0029"
down_revision = "0028"
phase = "pre"
serves = "0007"

_MONEY = sa.Numeric(20, 10)
_SCOPES = ("all", "gone", "session", "tag", "user")
_OPEN = sa.text(
    "batch_id IS NOT NULL AND state IN ('queued', 'retrying', 'running', 'unknown', 'waiting')"
)
_BEGUN = sa.text("ended_at IS NULL AND state <> 'submitting'")
_FAILED = sa.text("batch_id IS NOT NULL AND state IN ('dead', 'failed')")
_EARLIER = sa.text("batch_id IS NOT NULL AND batch_line IS NULL")

# What has ended so far; what ends from now on is counted as it does.
_COUNT = """
INSERT INTO batch_tallies (batch_id, part, state, error_code, n, cost_usd, unpriced, input_tokens,
    output_tokens)
SELECT batch_id, 0, state, coalesce(error_code, ''), count(batch_line), coalesce(sum(cost_usd), 0),
    sum(CASE WHEN cost_usd IS NULL AND attempt > 0 THEN 1 ELSE 0 END),
    coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0)
FROM turns WHERE batch_id IS NOT NULL
    AND state IN ('succeeded', 'failed', 'dead', 'cancelled', 'expired')
GROUP BY batch_id, state, coalesce(error_code, '')
"""
# When, nobody has noted; nothing is to be done about them any more.
_NOTE_ENDS = """
UPDATE batches SET ended_at = coalesce(told_at, cancelled_at, created_at)
WHERE state NOT IN ('submitting', 'running', 'paused') AND NOT EXISTS (
    SELECT 1 FROM turns t WHERE t.batch_id = batches.id
        AND t.state NOT IN ('succeeded', 'failed', 'dead', 'cancelled', 'expired'))
"""


def upgrade() -> None:
    """Apply; code of before goes on: what it ends is counted when its batch has ended."""
    op.drop_table("batch_tallies")
    _create_tallies(sa.Column("error_code", sa.Text(), nullable=False, server_default=""))
    op.execute(_COUNT)
    for name in ("tended_at", "resumed_at"):
        op.add_column("batches", sa.Column(name, Timestamp(), nullable=True))
    op.execute(_NOTE_ENDS)
    op.create_index(
        "ix_batches_begun", "batches", ["id"], postgresql_where=_BEGUN, sqlite_where=_BEGUN
    )
    _index("ix_turns_batch_open", ["batch_id", "state"], _OPEN)
    _index("ix_turns_batch_failed", ["batch_id", "finished_at"], _FAILED)
    _index("ix_turns_batch_earlier", ["batch_id"], _EARLIER)
    op.create_table(
        "reuse_keys",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_reuse_keys"),
    )
    _know_scopes((*_SCOPES, "batch"))


def _index(name: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, "turns", columns, postgresql_where=where, sqlite_where=where)


def _know_scopes(words: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{one}'" for one in sorted(words))
    with op.batch_alter_table("budgets") as batch_op:
        batch_op.drop_constraint(op.f("ck_budgets_scope_known"), type_="check")
        batch_op.create_check_constraint(op.f("ck_budgets_scope_known"), f"scope IN ({listed})")


def _create_tallies(*more: sa.Column[str]) -> None:
    key = ["batch_id", "part", "state", *(one.name for one in more)]
    op.create_table(
        "batch_tallies",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        *more,
        sa.Column("n", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("cost_usd", _MONEY, nullable=False, server_default="0"),
        sa.Column("unpriced", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("last_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint(*key, name="pk_batch_tallies"),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name="fk_batch_tallies_batch_id", ondelete="CASCADE"
        ),
        postgresql_with={"fillfactor": "50"},
    )


def downgrade() -> None:
    """Undo; a limit of a batch is its own no more."""
    op.execute("DELETE FROM budgets WHERE scope = 'batch'")
    _know_scopes(_SCOPES)
    op.drop_table("reuse_keys")
    for name in ("ix_turns_batch_earlier", "ix_turns_batch_failed", "ix_turns_batch_open"):
        op.drop_index(name, table_name="turns")
    op.drop_index("ix_batches_begun", table_name="batches")
    for name in ("resumed_at", "tended_at"):
        op.drop_column("batches", name)
    op.drop_table("batch_tallies")
    _create_tallies()
