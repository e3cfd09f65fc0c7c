"""What is promised to several people who follow a session."""

from turnmill.store.upkeep.invariant import Invariant

OF_PEOPLE = (
    Invariant(
        name="log_has_no_holes",
        promise="What happened in a shared session is numbered from 1 on, without holes.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            JOIN turnmill.shared_sessions h ON h.session_id = s.id
            WHERE {sessions} AND h.last_n <> (
                SELECT count(*) FROM turnmill.shared_log l
                WHERE l.session_id = s.id AND l.n BETWEEN 1 AND h.last_n)
        """,
    ),
    Invariant(
        name="note_has_its_place",
        promise="Each note stands in the log of its session.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id FROM turnmill.sessions s
            JOIN turnmill.notes o ON o.session_id = s.id
            WHERE {sessions} AND NOT EXISTS (
                SELECT 1 FROM turnmill.shared_log l
                WHERE l.session_id = o.session_id AND l.n = o.n AND l.kind = 'note.posted')
        """,
    ),
)
