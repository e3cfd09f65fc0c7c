"""What is promised of schedules and templates: what rows say of others is there."""

from turnmill.store.upkeep.invariant import Invariant

OF_SCHEDULES = (
    Invariant(
        name="run_has_its_turn",
        promise="A schedule counts no run for which there is no turn.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            JOIN turnmill.schedules c ON c.session_id = s.id
            WHERE {sessions}
            GROUP BY s.id
            HAVING sum(c.runs) > (
                SELECT count(*) FROM turnmill.turns t
                WHERE t.session_id = s.id AND t.idempotency_key LIKE 'schedule:%')
        """,
    ),
    Invariant(
        name="template_is_there",
        promise="A session was made from no version of a template, or from one that there is.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            WHERE {sessions} AND s.template IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM turnmill.template_versions v
                WHERE v.name = s.template AND v.version = s.template_version)
        """,
    ),
)
