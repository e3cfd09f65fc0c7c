"""What is promised of figures: each turn that ended, and each that is gone, counts once."""

from turnmill.domain.states import ENDINGS, FINAL
from turnmill.store.schema.metadata import sql_list
from turnmill.store.upkeep.invariant import Invariant

_FINAL = sql_list(frozenset(FINAL))
_OF_ENDINGS = sql_list(frozenset(ENDINGS))

OF_FIGURES = (
    Invariant(
        name="figures_count_each_turn_once",
        promise="A quarter of an hour counts as many turns as have ended in it and are folded in,"
        " and as have ended in it and are gone.",
        broken=f"""
            WITH ended AS (
                SELECT {{slot}} AS slot, t.session_id, t.id AS turn_id,
                    row_number() OVER (PARTITION BY {{slot}} ORDER BY t.id) AS n,
                    sum(CASE WHEN t.id IN (SELECT e.turn_id FROM turnmill.events e
                        WHERE e.kind IN {_OF_ENDINGS} AND (e.place IS NULL
                            OR e.place > (SELECT last.place FROM turnmill.rollup_state last))
                    ) THEN 0 ELSE 1 END) OVER (PARTITION BY {{slot}}) AS turns
                FROM turnmill.turns t CROSS JOIN turnmill.rollup_state f
                WHERE {{turns}} AND t.state IN {_FINAL}
                    AND NOT (t.state = 'succeeded' AND t.claims = 0)
                    AND f.place >= 0 AND (f.first_slot IS NULL OR t.finished_at >= f.first_slot)
                    AND f.place >= (SELECT l.pruned_place FROM turnmill.event_log l)
            )
            SELECT x.session_id, x.turn_id FROM ended x
            WHERE x.n = 1
                AND NOT EXISTS (SELECT 1 FROM turnmill.rollup_marks m WHERE m.slot = x.slot)
                AND x.turns + (SELECT COALESCE(sum(g.turns), 0) FROM turnmill.rollups_gone g
                        WHERE g.slot = x.slot)
                    <> (SELECT COALESCE(sum(r.turns), 0) FROM turnmill.rollups r
                        WHERE r.slot = x.slot)
        """,
    ),
)
