"""What is promised of steps: what they did is known, and nothing is done twice that must not be."""

from turnmill.domain.states import CUT_SHORT, OPEN_CALLS, Effects
from turnmill.store.schema.metadata import sql_list
from turnmill.store.upkeep.invariant import Invariant

_OPEN = sql_list(frozenset(OPEN_CALLS))
#: Of what these leave behind no model is told, and nobody goes on with it.
_OVER = sql_list(frozenset(CUT_SHORT))
_CALLS = """FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            JOIN turnmill.tool_calls c ON c.turn_id = t.id"""
_OUTPUT = """EXISTS (SELECT 1 FROM turnmill.messages m
                WHERE m.turn_id = c.turn_id AND m.position = c.position AND m.role = 'tool')"""

OF_STEPS = (
    Invariant(
        name="success_leaves_no_call_open",
        promise="A turn that succeeded has an output for each call of a tool.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id {_CALLS}
            WHERE {{sessions}} AND t.state = 'succeeded' AND c.state IN {_OPEN}
        """,
    ),
    Invariant(
        name="no_call_outlives_its_turn",
        promise="A turn that was cancelled or has expired leaves no call of a tool open.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id {_CALLS}
            WHERE {{sessions}} AND t.state IN {_OVER} AND c.state IN {_OPEN}
        """,
    ),
    Invariant(
        name="call_ends_with_its_output",
        promise="A call of a tool has ended exactly if the model is told what came of it.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id {_CALLS}
            WHERE {{sessions}} AND (
                (c.ended_at IS NULL) <> (c.state IN {_OPEN})
                OR (c.ended_at IS NULL AND {_OUTPUT})
                OR (c.ended_at IS NOT NULL AND t.state NOT IN {_OVER} AND NOT {_OUTPUT}))
        """,
    ),
    Invariant(
        name="output_has_its_receipt",
        promise="Every output of a tool in a turn of several steps has the receipt of its call.",
        broken="""
            SELECT t.session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            JOIN turnmill.messages m ON m.turn_id = t.id
            WHERE {sessions} AND m.role = 'tool' AND t.step > 1 AND m.position >= 0
                AND NOT EXISTS (
                SELECT 1 FROM turnmill.tool_calls c
                WHERE c.turn_id = m.turn_id AND c.position = m.position
                    AND c.session_id = t.session_id)
        """,
    ),
    Invariant(
        name="once_is_once",
        promise="A tool that may be run once at most is begun once at most.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id {_CALLS}
            WHERE {{sessions}} AND c.effects = '{Effects.AT_MOST_ONCE}' AND c.runs > 1
        """,
    ),
    Invariant(
        name="begun_is_noted",
        promise="A call that was begun says under which claim, and when.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id {_CALLS}
            WHERE {{sessions}} AND (
                (c.runs > 0) <> (c.fence IS NOT NULL) OR (c.runs > 0) <> (c.started_at IS NOT NULL)
                OR (c.state = 'running' AND c.runs = 0))
        """,
    ),
    Invariant(
        name="steps_go_forward",
        promise="A turn stands at the step of its last attempt, and takes none again.",
        broken="""
            SELECT line.session_id, line.turn_id FROM (
                SELECT t.session_id, t.id AS turn_id, t.step AS stands_at, a.step, lag(a.step)
                    OVER before AS step_before, lag(a.outcome) OVER before AS outcome_before
                FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
                JOIN turnmill.attempts a ON a.turn_id = t.id
                WHERE {sessions}
                WINDOW before AS (PARTITION BY a.turn_id ORDER BY a.fence)
            ) AS line
            WHERE line.step > line.stands_at OR line.step_before IS NOT NULL AND line.step <>
                line.step_before + CASE WHEN line.outcome_before = 'called' THEN 1 ELSE 0 END
        """,
    ),
)
