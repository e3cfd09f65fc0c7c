"""The view of feedback counts what is of the reply that stands: not what was said of one before."""

from alembic import op

revision = "0050"
down_revision = "0047"
phase = "pre"
serves = "0007"

_SAID = (
    "SELECT date_trunc('day', f.updated_at, 'UTC') AS day, s.provider, s.model, t.lane,"
    " count(*)::bigint AS rated, count(*) FILTER (WHERE f.score > 0)::bigint AS liked,"
    " count(*) FILTER (WHERE f.score < 0)::bigint AS disliked, sum(f.score) AS score_sum"
    " FROM feedback f JOIN turns t ON t.id = f.turn_id JOIN sessions s ON s.id = t.session_id"
    " WHERE f.score IS NOT NULL AND s.status <> 'deleted'{} GROUP BY 1, 2, 3, 4"
)
_STANDS = (
    " AND t.state IN ('succeeded', 'failed', 'dead', 'cancelled', 'expired')"
    " AND f.updated_at >= t.finished_at"
)


def upgrade() -> None:
    """Apply; its columns stay, and who may read it."""
    _show(_SAID.format(_STANDS))


def downgrade() -> None:
    """Undo."""
    _show(_SAID.format(""))


def _show(said: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE OR REPLACE VIEW v_feedback_days AS {said}")
