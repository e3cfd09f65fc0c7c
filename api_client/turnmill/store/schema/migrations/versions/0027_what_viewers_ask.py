"""Who only looks is told when too much is asked for, and whether a session has other targets."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
phase = "pre"
serves = "0007"

# As before; NULL: a thousand others wait. What was run again already is not asked for.
_ASK = """
CREATE OR REPLACE FUNCTION ask_{verb}(turn uuid) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = "{schema}", pg_temp AS $$
    WITH wanted AS (
        SELECT t.id FROM turns t WHERE t.id = turn AND t.state {states}
            AND NOT EXISTS (SELECT FROM wishes w WHERE w.turn_id = t.id)
    ), made AS (
        INSERT INTO wishes (turn_id, verb)
        SELECT id, '{verb}' FROM wanted WHERE (SELECT count(*) FROM wishes) < 1000
        ON CONFLICT (turn_id) DO NOTHING RETURNING turn_id
    )
    SELECT CASE WHEN EXISTS (SELECT FROM made) THEN true
        WHEN EXISTS (SELECT FROM wanted) AND (SELECT count(*) FROM wishes) >= 1000 THEN NULL
        ELSE false END
$$
"""
_STATES = {
    "cancel": "NOT IN ('succeeded', 'failed', 'dead', 'cancelled', 'expired')",
    "retry": "IN ('failed', 'dead') AND NOT EXISTS (SELECT FROM turns r"
    " WHERE r.session_id = t.session_id AND r.seq > t.seq AND r.retry_of = t.id)",
}
# One bit of the settings, which the viewer does not see: it says who else may answer.
_FALLS_BACK = """
CREATE FUNCTION falls_back(session uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = "{schema}", pg_temp AS $$
    SELECT EXISTS (SELECT FROM sessions s WHERE s.id = session
        AND s.settings::text LIKE '%"fallback"%')
$$
"""


def upgrade() -> None:
    """Apply; code of before asks as it did."""
    conn = op.get_bind()
    if conn.dialect.name != "postgresql":
        return
    schema = conn.scalar(sa.text("SELECT current_schema()"))
    for verb, states in _STATES.items():
        op.execute(_ASK.format(verb=verb, schema=schema, states=states))
    op.execute(_FALLS_BACK.format(schema=schema))
    op.execute("REVOKE ALL ON FUNCTION falls_back(uuid) FROM PUBLIC")


def downgrade() -> None:
    """Undo; what asks serves code of before, too."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION falls_back(uuid)")
