"""`turnmill doctor` names whoever's open transaction holds up everybody else."""

import threading
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from celery.app.control import Control

from tests import rows
from tests.acceptance.examining import Place, examined
from turnmill.store.database import Database
from turnmill_worker.stack.process import wait_until

_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Control, "broadcast", lambda *_, **__: [])


def of_locks(place: Place, folder: Path) -> list[tuple[str, str, str]]:
    said = examined(folder, place.environment).json()["findings"]
    return [(one["level"], one["what"], one["fix"]) for one in said if one["check"] == "locks"]


# Not the one of sessions: all other checks would wait for it, each for its time.
def test_who_holds_a_table_is_named_with_the_process_to_end(place: Place, tmp_path: Path) -> None:
    assert of_locks(place, tmp_path) == [("ok", "nobody holds up others", "")]
    with psycopg.connect(place.database_url, application_name="a forgotten one") as holder:
        holder.execute("LOCK TABLE turnmill.topics IN SHARE MODE")
        [(level, what, fix)] = of_locks(place, tmp_path)
        assert level == "wrong"
        assert "a forgotten one, holds the table topics" in what
        assert f"pg_terminate_backend({holder.info.backend_pid})" in fix
    assert of_locks(place, tmp_path) == [("ok", "nobody holds up others", "")]


def test_who_holds_rows_is_named_where_others_wait_for_them(place: Place, tmp_path: Path) -> None:
    store = Database(place.database_url)
    session = rows.start(store)
    store.close()
    change = "UPDATE turnmill.sessions SET version = version WHERE id = %s"
    with (
        psycopg.connect(place.database_url) as holder,
        psycopg.connect(place.database_url) as other,
    ):
        holder.execute(change, [session])
        assert of_locks(place, tmp_path) == [("ok", "nobody holds up others", "")]
        waiter = threading.Thread(target=other.execute, args=(change, [session]))
        waiter.start()
        with psycopg.connect(place.database_url, autocommit=True) as looking:
            waits = (_WAITS, [holder.info.dbname])
            assert wait_until(
                lambda: looking.execute(*waits).fetchone() == (1,), timeout=timedelta(seconds=20)
            )
        [(level, what, fix)] = of_locks(place, tmp_path)
        assert (level, "rows for which others wait" in what) == ("wrong", True)
        assert f"pg_terminate_backend({holder.info.backend_pid})" in fix
        holder.rollback()
        waiter.join()
