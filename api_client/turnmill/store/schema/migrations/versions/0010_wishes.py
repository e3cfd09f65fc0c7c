"""Who only looks may wish for a turn to be cancelled or run again: dispatchers see to it."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp, db_now

revision = "0010"
down_revision = "0009"
phase = "pre"
serves = "0007"

# With the rights of the owner, and nobody's names but ours: a caller's search path leads nowhere.
_ASK = """
CREATE FUNCTION ask_{verb}(turn uuid) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = "{schema}", pg_temp AS $$
    WITH made AS (
        INSERT INTO wishes (turn_id, verb)
        SELECT t.id, '{verb}' FROM turns t
        WHERE t.id = turn AND t.state {states} AND (SELECT count(*) FROM wishes) < 1000
        ON CONFLICT (turn_id) DO NOTHING RETURNING turn_id
    )
    SELECT EXISTS (SELECT FROM made)
$$
"""
_STATES = {
    "cancel": "NOT IN ('succeeded', 'failed', 'dead', 'cancelled', 'expired')",
    "retry": "IN ('failed', 'dead')",
}


def upgrade() -> None:
    """Apply; code of before grants no wish."""
    op.create_table(
        "wishes",
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("turn_id", name="pk_wishes"),
        sa.CheckConstraint("verb IN ('cancel', 'retry')", name=op.f("ck_wishes_verb_known")),
    )
    conn = op.get_bind()
    if conn.dialect.name != "postgresql":
        return
    schema = conn.scalar(sa.text("SELECT current_schema()"))
    for verb, states in _STATES.items():
        conn.exec_driver_sql(_ASK.format(verb=verb, schema=schema, states=states))
        conn.exec_driver_sql(f"REVOKE ALL ON FUNCTION ask_{verb}(uuid) FROM PUBLIC")


def downgrade() -> None:
    """Go back."""
    if op.get_bind().dialect.name == "postgresql":
        for verb in _STATES:
            op.execute(f"DROP FUNCTION ask_{verb}(uuid)")
    op.drop_table("wishes")
