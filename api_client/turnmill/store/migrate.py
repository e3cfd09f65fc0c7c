"""Bringing a database to this version's schema."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from turnmill.domain.errors import InvalidInput
from turnmill.store.database import Database

_LOCK = 7_211_884_301  # any number: two `migrate` at once take turns


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run the migrations that are missing. Safe to run twice, and at once from two places."""
    database = Database(database_url)
    try:
        with database.begin() as conn:
            if database.is_postgres:
                conn.execute(text("SET LOCAL statement_timeout = 0"))
                conn.execute(text("SET LOCAL lock_timeout = '60s'"))
                conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            with _known_revisions():
                command.upgrade(_config(conn), revision)
    finally:
        database.close()


def downgrade(database_url: str, revision: str) -> None:
    """Go back to an earlier revision; `base` removes every table."""
    database = Database(database_url)
    try:
        with database.begin() as conn, _known_revisions():
            command.downgrade(_config(conn), revision)
    finally:
        database.close()


@contextmanager
def _known_revisions() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise InvalidInput(str(error), hint="name a revision of this version, or `head`") from None


def _config(conn: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "turnmill.store:migrations")
    config.attributes["connection"] = conn
    return config
