"""A Postgres server as such: whether it answers, and a database on it."""

import contextlib

import psycopg

_CONNECT_TIMEOUT_S = 2


def answers(url: str) -> bool:
    """Return whether the server takes connections now."""
    try:
        _connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def create_database(url: str, name: str) -> None:
    """Make an empty database; one that exists is left alone. `url` leads to another one."""
    statement = psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
    with _connect(url) as connection, contextlib.suppress(psycopg.errors.DuplicateDatabase):
        connection.execute(statement)


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S)
