"""What is promised of trials and experiments: copies go with what they are of."""

from turnmill.store.upkeep.invariant import Invariant

OF_TRIALS = (
    Invariant(
        name="copy_has_its_line",
        promise="What a trial has asked again stands only as long as its line does.",
        broken="""
            SELECT s.id AS session_id, t.id AS turn_id FROM turnmill.sessions s
            JOIN turnmill.turns t ON t.session_id = s.id
            JOIN turnmill.trials x ON x.batch_id = t.batch_id
            WHERE {sessions} AND s.status <> 'deleted' AND t.batch_line IS NOT NULL
                AND NOT EXISTS (
                    SELECT 1 FROM turnmill.trial_lines l
                    WHERE l.trial_id = x.id AND l.line = t.batch_line)
        """,
    ),
    Invariant(
        name="trial_line_has_its_turn",
        promise="A line of a trial is of a turn that is there, and of that turn's user.",
        broken="""
            SELECT l.session_id AS session_id, l.turn_id AS turn_id
            FROM turnmill.trial_lines l
            LEFT JOIN turnmill.turns t ON t.id = l.turn_id AND t.session_id = l.session_id
            LEFT JOIN turnmill.sessions s ON s.id = t.session_id
            WHERE t.id IS NULL OR {sessions} AND s.user_id <> l.user_id
        """,
    ),
    Invariant(
        name="trial_ends_with_its_outcome",
        promise="A trial that has ended says what it has shown.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            JOIN turnmill.trial_lines l ON l.session_id = s.id
            JOIN turnmill.trials x ON x.id = l.trial_id
            WHERE {sessions} AND x.ended_at IS NOT NULL AND x.outcome IS NULL
        """,
    ),
)
