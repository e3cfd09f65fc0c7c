"""What is promised of events: one for each ending, and numbers without holes."""

from turnmill.domain.states import ENDINGS, FINAL, EventKind
from turnmill.store.rules.endings import Happening
from turnmill.store.schema.metadata import sql_list
from turnmill.store.upkeep.invariant import Invariant

_FINAL = sql_list(frozenset(FINAL))
_OF_ENDINGS = sql_list(
    frozenset({*ENDINGS, EventKind(Happening.RETRIED), EventKind(Happening.DELETED)})
)
#: Of an event or an ending at this moment nothing is promised: code of before may have been at
#: work, or what was written is pruned.
_EXCUSED = """EXISTS (SELECT 1 FROM turnmill.event_log l WHERE l.complete_since IS NULL
    OR {at} <= l.complete_since OR {at} <= l.pruned_until)"""

OF_EVENTS = (
    Invariant(
        name="ending_has_its_event",
        promise="Every turn that has ended here has its event; one that was written as history has"
        " none.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {{sessions}} AND t.state IN {_FINAL}
                AND NOT (t.state = 'succeeded' AND t.claims = 0)
                AND NOT {_EXCUSED.format(at="t.finished_at")}
                AND NOT EXISTS (SELECT 1 FROM turnmill.events e WHERE e.session_id = t.session_id
                    AND e.turn_id = t.id AND e.kind = 'turn.' || t.state)
        """,
    ),
    Invariant(
        name="one_event_per_ending",
        promise="A turn has one event for each ending, and the last says what it is.",
        broken=f"""
            SELECT session_id, turn_id FROM (
                SELECT e.session_id, e.turn_id, e.kind, e.at, t.state, lead(e.kind)
                    OVER (PARTITION BY e.session_id, e.turn_id ORDER BY e.n) AS then_came
                FROM turnmill.events e JOIN turnmill.sessions s ON s.id = e.session_id
                    LEFT JOIN turnmill.turns t ON t.id = e.turn_id
                WHERE {{sessions}} AND e.kind IN {_OF_ENDINGS}
            ) AS told
            WHERE NOT {_EXCUSED.format(at="told.at")} AND CASE
                WHEN told.then_came IS NOT NULL
                    THEN (told.kind = '{Happening.RETRIED}')
                        = (told.then_came = '{Happening.RETRIED}')
                WHEN told.kind = '{Happening.RETRIED}' THEN told.state IN {_FINAL}
                ELSE told.kind <> 'turn.' || told.state END
        """,
    ),
    Invariant(
        name="events_are_numbered",
        promise="The events of a session that are kept have its last numbers, without a hole.",
        broken="""
            SELECT s.id AS session_id, NULL AS turn_id
            FROM turnmill.sessions s JOIN turnmill.events e ON e.session_id = s.id
            WHERE {sessions}
            GROUP BY s.id, s.events
            HAVING max(e.n) <> s.events OR max(e.n) - min(e.n) + 1 <> count(*)
        """,
    ),
)
