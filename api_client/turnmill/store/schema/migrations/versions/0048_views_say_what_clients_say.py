"""Views count what clients count: feedback of replies that stand, and all turns that have ended."""

from alembic import op

revision = "0048"
down_revision = "0047"
phase = "pre"
serves = "0007"

_ENDED = "t.state IN ('succeeded', 'failed', 'dead', 'cancelled', 'expired')"
_FEEDBACK = (
    "SELECT date_trunc('day', f.updated_at, 'UTC') AS day, s.provider, s.model, t.lane,"
    " count(*)::bigint AS rated, count(*) FILTER (WHERE f.score > 0)::bigint AS liked,"
    " count(*) FILTER (WHERE f.score < 0)::bigint AS disliked, sum(f.score) AS score_sum"
    " FROM feedback f JOIN turns t ON t.id = f.turn_id JOIN sessions s ON s.id = t.session_id"
    " WHERE f.score IS NOT NULL AND s.status <> 'deleted'{} GROUP BY 1, 2, 3, 4"
)
_STANDS = f" AND {_ENDED} AND f.updated_at >= t.finished_at"
_EXPERIMENTS = (
    "SELECT e.id, e.name, e.template, e.provider, e.model, e.share, e.created_at, e.stopped_at,"
    " a.arm, count(*)::bigint AS sessions, count(DISTINCT s.user_id)::bigint AS users,"
    " sum({})::bigint AS turns, sum({})::bigint AS failed,"
    " sum(s.cost_usd) AS cost_usd FROM experiments e JOIN session_arms a ON a.experiment_id ="
    " e.id JOIN sessions s ON s.id = a.session_id{} WHERE s.status <> 'deleted' GROUP BY e.id,"
    " a.arm"
)
#: Of each session, found by the index of its line.
_OF_SESSION = (
    " CROSS JOIN LATERAL (SELECT count(*) AS turns, count(*) FILTER (WHERE t.state IN ('failed',"
    f" 'dead')) AS failed FROM turns t WHERE t.session_id = s.id AND {_ENDED}"
    " AND t.finish_reason IS DISTINCT FROM 'scripted') own"
)


def upgrade() -> None:
    """Apply; their columns stay, and who may read them."""
    _show("v_feedback_days", _FEEDBACK.format(_STANDS))
    _show("v_experiments", _EXPERIMENTS.format("own.turns", "own.failed", _OF_SESSION))


def downgrade() -> None:
    """Undo."""
    _show("v_feedback_days", _FEEDBACK.format(""))
    _show("v_experiments", _EXPERIMENTS.format("s.turns_succeeded", "s.turns_failed", ""))


def _show(view: str, said: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE OR REPLACE VIEW {view} AS {said}")
