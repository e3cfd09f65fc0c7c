"""What is promised of turns in batches of vendors: somebody sees to each of them."""

from turnmill.store.upkeep.invariant import Invariant

OF_SHARDS = (
    Invariant(
        name="shards_are_seen_to",
        promise="A turn that stands in a shard waits for one that somebody is still to see to.",
        broken="""
            SELECT s.id AS session_id, t.id AS turn_id
            FROM turnmill.sessions s JOIN turnmill.turns t ON t.session_id = s.id
            WHERE {sessions} AND t.state = 'waiting' AND t.waits_for = 'batch'
                AND t.native_ref <> '' AND NOT EXISTS (
                    SELECT 1 FROM turnmill.batch_shards b
                    WHERE CAST(b.id AS text) = t.native_ref AND b.due_at IS NOT NULL
                        AND b.batch_id = t.batch_id)
        """,
    ),
)
