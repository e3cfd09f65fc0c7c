"""Lines of batches on Postgres: thousands of them in one statement."""

from collections.abc import Sequence

from sqlalchemy import Connection

from turnmill.domain.ids import BatchId
from turnmill.store.batch_records import StagedLine
from turnmill.store.rules.accepting import as_json
from turnmill.store.schema_name import execute

_STAGE = """
INSERT INTO turnmill.batch_lines
    (batch_id, line, custom_id, user_id, session, content, key, weight, bound_usd, metadata)
SELECT %(batch_id)s, r.line, r.custom_id, r.user_id, r.session, r.content, r.key, r.weight,
    r.bound_usd, r.metadata
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (line bigint, custom_id text, user_id text,
    session text, content jsonb, key bytea, weight integer, bound_usd numeric, metadata jsonb)
"""


def stage_lines(conn: Connection, batch_id: BatchId, lines: Sequence[StagedLine]) -> None:
    """Write lines that do not stand yet."""
    rows = [
        as_json(
            {
                "line": one.number,
                "custom_id": one.custom_id,
                "user_id": one.user_id,
                "session": one.session,
                "content": one.content,
                "key": one.key,
                "weight": one.weight,
                "bound_usd": one.bound_usd,
                "metadata": one.metadata,
            }
        )
        for one in lines
    ]
    execute(conn, _STAGE, {"batch_id": batch_id, "rows": f"[{','.join(rows)}]"})
