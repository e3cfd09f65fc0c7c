"""Of what was said and is gone since its time was over, no hash stays: of before, too."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from tests.migration.conftest import StoreAt
from turnmill.domain.batches import LineState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.schema import migrate
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches, sessions, turns


@pytest.mark.parametrize("engine", ["postgres", "sqlite"])
def test_hashes_of_what_was_gone_before_go(store_at: StoreAt, engine: str) -> None:
    session, batch, now = new_id(), new_id(), datetime.now(UTC)
    with store_at(engine, "0056") as url:
        store = Database(url, pool_size=1)
        with store.begin() as conn:
            row = {"id": session, "user_id": "ada", "provider": "mock", "model": "m"}
            conn.execute(sessions.insert().values(**row, content_gone_until=now))
            conn.execute(batches.insert().values(id=batch, name="of before", content_hash=b""))
            for seq, ended_at in ((1, now - timedelta(days=1)), (2, now + timedelta(days=1))):
                row = {"id": new_id(), "session_id": session, "seq": seq, "max_attempts": 5}
                row |= {"idempotency_key": f"{seq}", "idempotency_hash": b"hash"}
                conn.execute(turns.insert().values(**row, finished_at=ended_at))
                turn = row["id"]
                for line, of in ((seq, "turn_id"), (seq + 2, "reused_from")):
                    row = {"batch_id": batch, "line": line, "key": b"key", of: turn}
                    conn.execute(batch_lines.insert().values(row))
        migrate.upgrade(url)
        with store.begin() as conn:
            hashes = conn.scalars(select(turns.c.idempotency_hash).order_by(turns.c.seq)).all()
            keys = conn.scalars(select(batch_lines.c.key).order_by(batch_lines.c.line)).all()
        store.close()
    assert (hashes, keys) == ([b"", b"hash"], [None, b"key", None, b"key"])


@pytest.mark.parametrize("engine", ["postgres", "sqlite"])
def test_so_do_hashes_of_lines_that_were_dropped_or_whose_answers_were_deleted(
    store_at: StoreAt, engine: str
) -> None:
    there, session, batch = new_id(), new_id(), new_id()
    with store_at(engine, "0057") as url:
        store = Database(url, pool_size=1)
        with store.begin() as conn:
            row = {"id": session, "user_id": "ada", "provider": "mock", "model": "m"}
            conn.execute(sessions.insert().values(row))
            conn.execute(batches.insert().values(id=batch, name="of before", content_hash=b""))
            row = {"id": there, "session_id": session, "seq": 1, "max_attempts": 5}
            conn.execute(turns.insert().values(row))
            for line, turn in enumerate((there, new_id(), None), 1):
                row = {"batch_id": batch, "line": line, "key": b"key", "reused_from": turn}
                conn.execute(batch_lines.insert().values(row))
            dropped = {"batch_id": batch, "line": 4, "key": b"key", "state": LineState.DROPPED}
            conn.execute(batch_lines.insert().values(dropped))
        migrate.upgrade(url)
        with store.begin() as conn:
            keys = conn.scalars(select(batch_lines.c.key).order_by(batch_lines.c.line)).all()
        store.close()
    assert keys == [b"key", None, b"key", None]
