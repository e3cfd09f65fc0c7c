"""What is promised of batches: what is counted where turns end is what there is."""

from turnmill.domain.states import FINAL
from turnmill.store.schema.metadata import sql_list
from turnmill.store.upkeep.invariant import Invariant

_FINAL = sql_list(frozenset(FINAL))

OF_BATCHES = (
    # Of batches that have ended, each by the turn of its last line: all are counted for it.
    Invariant(
        name="batch_counts_its_lines",
        promise="A batch that has ended counts exactly the lines that have come to an end.",
        broken=f"""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.batches b JOIN turnmill.turns t ON t.batch_id = b.id
            JOIN turnmill.sessions s ON s.id = t.session_id
            WHERE {{sessions}} AND b.ended_at IS NOT NULL AND t.batch_line = (
                    SELECT max(l.batch_line) FROM turnmill.turns l WHERE l.batch_id = b.id)
                AND (SELECT COALESCE(sum(y.n), 0) FROM turnmill.batch_tallies y
                    WHERE y.batch_id = b.id AND y.state IN {_FINAL})
                <> (SELECT count(*) FROM turnmill.turns c
                    WHERE c.batch_id = b.id AND c.batch_line IS NOT NULL AND c.state IN {_FINAL})
        """,
    ),
)
