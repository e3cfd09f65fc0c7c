"""Connections that the server has ended meanwhile: the next user of one does not pay for it."""

from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import Connection, text

from turnmill.domain.errors import StoreUnavailable
from turnmill.store import dialing
from turnmill.store.database import Database


@pytest.fixture
def end_all(database_url: str) -> Callable[[], None]:
    """Return what ends every connection but its own, as a restart of the server does."""

    def end() -> None:
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    return end


def backend(conn: Connection) -> int:
    return int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_that_was_idle_for_a_while_is_asked_whether_it_still_stands(
    store: Database, end_all: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "_TRUSTED_SECONDS", 0.0)  # a while has passed
    with store.single() as conn:
        first = backend(conn)
    end_all()
    with store.single() as conn:
        assert backend(conn) != first
    end_all()
    with store.begin() as conn:
        backend(conn)


def test_one_that_was_used_just_now_is_trusted__who_is_wrong_gets_a_typed_error_once(
    store: Database, end_all: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "_TRUSTED_SECONDS", 3600.0)  # no time has passed
    with store.single() as conn:
        first = backend(conn)
    with store.single() as conn:
        assert backend(conn) == first
    end_all()
    with pytest.raises(StoreUnavailable), store.single() as conn:
        backend(conn)
    with store.single() as conn:
        assert backend(conn) != first
