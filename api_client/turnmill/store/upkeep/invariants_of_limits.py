"""What is promised of waiting: it costs no attempt, and says what it is for."""

from turnmill.store.upkeep.invariant import Invariant

_PUT_OFF = """FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            JOIN turnmill.attempts a ON a.turn_id = t.id AND a.fence = t.lease_fence
            WHERE {sessions} AND t.state = 'queued' AND a.outcome = 'not_now'"""

OF_LIMITS = (
    Invariant(
        name="waiting_costs_no_attempt",
        promise="A turn that was put off has as many attempts left as before.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id {_PUT_OFF} AND t.attempt >= t.max_attempts
        """,
    ),
    Invariant(
        name="waiting_says_for_what",
        promise="A turn that was put off says what it waits for.",
        broken=f"""
            SELECT t.session_id, t.id AS turn_id {_PUT_OFF} AND t.waits_for IS NULL
        """,
    ),
)
