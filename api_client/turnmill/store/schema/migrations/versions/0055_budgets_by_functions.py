"""Budgets are locked and changed by functions, whose plans are small and whose snapshots are new."""

import sqlalchemy as sa
from alembic import op

revision = "0055"
down_revision = "0054"
phase = "pre"
serves = "0007"

# A statement that finds a row newer than its snapshot sets up all of its plan anew for a look at
# it. Of a statement that settles or reserves, that is a third of what it costs; of these, nothing.
_LOCK = """
CREATE FUNCTION budgets_lock(ids uuid[]) RETURNS TABLE (id uuid, n bigint, limit_usd numeric,
    spent_usd numeric, reserved_usd numeric, on_exceeded text, ends_at timestamptz, period text)
LANGUAGE plpgsql SET search_path = "{schema}", pg_temp AS $$
BEGIN
    RETURN QUERY SELECT b.id, b.n, b.limit_usd, b.spent_usd, b.reserved_usd, b.on_exceeded,
        b.ends_at, b.period
    FROM budgets b WHERE b.id = ANY (ids) ORDER BY b.id FOR NO KEY UPDATE;
END
$$
"""
# Of budgets that are locked.
_RESERVE = """
CREATE FUNCTION budgets_reserve(ids uuid[], amounts numeric[]) RETURNS void
LANGUAGE plpgsql SET search_path = "{schema}", pg_temp AS $$
BEGIN
    UPDATE budgets b SET reserved_usd = b.reserved_usd + x.more
    FROM unnest(ids, amounts) AS x (id, more) WHERE b.id = x.id;
END
$$
"""
# Those that stand at another period by now are done with the one that was charged.
_CHARGE = """
CREATE FUNCTION budgets_charge(ids uuid[], periods bigint[], reserved numeric[], spent numeric[],
    estimated numeric[], turns uuid[]) RETURNS void
LANGUAGE plpgsql SET search_path = "{schema}", pg_temp AS $$
BEGIN
    PERFORM FROM budgets b WHERE b.id = ANY (ids) ORDER BY b.id FOR NO KEY UPDATE;
    UPDATE budgets b SET reserved_usd = b.reserved_usd - x.reserved,
        spent_usd = b.spent_usd + x.spent, estimated_usd = b.estimated_usd + x.estimated,
        last_turn_id = x.turn_id, wake_until = CASE WHEN b.spent_usd + x.spent >= b.tell_usd
            THEN COALESCE(b.wake_until, now()) ELSE b.wake_until END
    FROM unnest(ids, periods, reserved, spent, estimated, turns)
        AS x (id, n, reserved, spent, estimated, turn_id)
    WHERE b.id = x.id AND b.n = x.n AND b.period <> 'turn';
END
$$
"""
# Roles that change rows themselves may do it so, too, where not everybody may.
_GRANT = """
DO $$
DECLARE of_role text;
BEGIN
    FOR of_role IN SELECT DISTINCT pg_get_userbyid(a.grantee) FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = to_regclass('budgets') AND a.privilege_type = 'UPDATE'
            AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION {function} TO %I', of_role);
    END LOOP;
END
$$
"""
_FUNCTIONS = (
    "budgets_lock(uuid[])",
    "budgets_reserve(uuid[], numeric[])",
    "budgets_charge(uuid[], bigint[], numeric[], numeric[], numeric[], uuid[])",
)


def upgrade() -> None:
    """Apply; code of before changes the rows itself, in the same order of locks."""
    conn = op.get_bind()
    if conn.dialect.name != "postgresql":
        return
    schema = conn.scalar(sa.text("SELECT current_schema()"))
    for statement in (_LOCK, _RESERVE, _CHARGE):
        op.execute(statement.format(schema=schema))
    for function in _FUNCTIONS:
        op.execute(_GRANT.format(function=function))


def downgrade() -> None:
    """Undo."""
    if op.get_bind().dialect.name == "postgresql":
        for function in _FUNCTIONS:
            op.execute(f"DROP FUNCTION {function}")
