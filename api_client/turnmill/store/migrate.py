"""Bringing a database to this version's schema."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

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
            command.upgrade(_config(conn), revision)
    finally:
        database.close()


def downgrade(database_url: str, revision: str) -> None:
    """Go back to an earlier revision; `base` removes every table."""
    database = Database(database_url)
    try:
        with database.begin() as conn:
            command.downgrade(_config(conn), revision)
    finally:
        database.close()


def _config(conn: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "turnmill.store:migrations")
    config.attributes["connection"] = conn
    return config
