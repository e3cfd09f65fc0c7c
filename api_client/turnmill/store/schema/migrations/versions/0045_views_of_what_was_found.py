"""Views of feedback, topics, trials and experiments, for people with a dashboard of their own."""

from alembic import op

revision = "0045"
down_revision = "0044"
phase = "pre"
serves = "0007"

#: A topic of fewer users is shown to nobody.
_TOPIC_USERS = 5
_SEEN = "s.status <> 'deleted'"


def _number(name: str, *, of: str, kind: str = "double precision") -> str:
    """Return a figure of a trial's outcome; NULL where there is none."""
    return f"(outcome #>> '{{{of}}}')::{kind} AS {name}"


def _difference(name: str) -> str:
    parts = (("before", "before"), ("after", "after"), ("low", "low"), ("high", "high"))
    return ", ".join(_number(f"{name}_{said}", of=f"{name},{of}") for said, of in parts)


_VIEWS = {
    "v_feedback_days": (
        "SELECT date_trunc('day', f.updated_at, 'UTC') AS day, s.provider, s.model, t.lane,"
        " count(*)::bigint AS rated, count(*) FILTER (WHERE f.score > 0)::bigint AS liked,"
        " count(*) FILTER (WHERE f.score < 0)::bigint AS disliked, sum(f.score) AS score_sum"
        " FROM feedback f JOIN turns t ON t.id = f.turn_id JOIN sessions s ON s.id = t.session_id"
        f" WHERE f.score IS NOT NULL AND {_SEEN} GROUP BY 1, 2, 3, 4"
    ),
    "v_topics": (
        "SELECT o.topic_id, count(*)::bigint AS sessions,"
        " count(DISTINCT s.user_id)::bigint AS users, sum(s.turns_succeeded)::bigint AS turns,"
        " sum(s.turns_failed)::bigint AS failed, sum(s.cost_usd) AS cost_usd,"
        " min(t.first_run) AS first_run, max(t.last_run) AS last_run"
        " FROM session_topics o JOIN topics t ON t.id = o.topic_id"
        f" JOIN sessions s ON s.id = o.session_id WHERE {_SEEN}"
        f" GROUP BY 1 HAVING count(DISTINCT s.user_id) >= {_TOPIC_USERS}"
    ),
    "v_trials": (
        "SELECT id, name, state, provider, model, judge, template, sampled, created_at, ended_at, "
        + ", ".join(_number(name, of=name, kind="bigint") for name in ("asked", "answered"))
        + f", {_number('judged', of='judged', kind='bigint')}, "
        + f"{_number('agreement', of='agreement,mean')}, "
        + f"{_number('agreement_low', of='agreement,low')}, "
        + f"{_number('agreement_high', of='agreement,high')}, "
        + f"{_difference('cost_usd')}, {_difference('latency_ms')}, "
        + f"{_number('spent_usd', of='spent_usd', kind='numeric')}, "
        + f"{_number('judge_usd', of='judge_usd', kind='numeric')} FROM trials"
    ),
    "v_experiments": (
        "SELECT e.id, e.name, e.template, e.provider, e.model, e.share, e.created_at, e.stopped_at,"
        " a.arm, count(*)::bigint AS sessions, count(DISTINCT s.user_id)::bigint AS users,"
        " sum(s.turns_succeeded)::bigint AS turns, sum(s.turns_failed)::bigint AS failed,"
        " sum(s.cost_usd) AS cost_usd FROM experiments e JOIN session_arms a ON a.experiment_id ="
        f" e.id JOIN sessions s ON s.id = a.session_id WHERE {_SEEN} GROUP BY e.id, a.arm"
    ),
}


def upgrade() -> None:
    """Apply; code of before knows nothing of them, and SQLite has no views."""
    op.create_index("ix_feedback_updated_at", "feedback", ["updated_at"])
    if op.get_bind().dialect.name == "postgresql":
        for name, said in _VIEWS.items():
            op.execute(f"CREATE VIEW {name} AS {said}")


def downgrade() -> None:
    """Undo; what they show stays."""
    if op.get_bind().dialect.name == "postgresql":
        for name in _VIEWS:
            op.execute(f"DROP VIEW {name}")
    op.drop_index("ix_feedback_updated_at", "feedback")
