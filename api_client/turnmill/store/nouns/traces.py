"""Where something of a user is found in the tables: all columns that the schema has are looked at.

Also those that nobody declared to be anybody's.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    cast,
    column,
    false,
    func,
    inspect,
    or_,
    select,
    table,
)

from turnmill.crypto.envelope import PREFIX
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.nouns.erased_rows import gone_of
from turnmill.store.schema.belongings import BELONGINGS, Goes
from turnmill.store.schema_name import execute

#: Kinds that hold none, in either store; all others are looked at as they are written.
_WITHOUT_WORDS = (
    *("INT", "BIGINT", "SMALLINT", "NUMERIC", "DECIMAL", "REAL", "DOUBLE", "FLOAT"),
    *("BOOL", "UUID", "TIME", "DATE", "INTERVAL"),
)
#: Of values in which nobody can look for words.
_SEALED = "sealed"
_IN_JSON = ("JSON",)
_IN_LISTS = ("ARRAY",)
_IN_BYTES = ("BYTEA", "BLOB", "BINARY", "LARGEBINARY", "VARBINARY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """A place where something was found."""

    where: str  #: `table.column`, `files`, `redis`, or `keys`
    what: str  #: `id`: the user's; `word`: one of those asked for; `row`: of a session of his
    count: int  #: rows, files or keys


def look_in_tables(
    conn: Connection,
    user_id: str,
    words: Sequence[str],
    *,
    schema: str | None,
    unseen: list[str],
) -> tuple[int, list[Remains]]:
    """Return at how many columns it looked, and where something was found.

    Told in `unseen` are columns in which nobody can look for words, since values are encrypted.
    """
    remains: list[Remains] = []
    looked_at, found = 0, inspect(conn)
    for name in found.get_table_names(schema=schema):
        asked = {
            (str(one["name"]), what): condition
            for one in found.get_columns(name, schema=schema)
            for what, condition in _conditions(one, user_id, words)
        }
        if not asked:
            continue
        looked_at += len({of_column for of_column, _ in asked})
        counts = [func.count().filter(condition) for condition in asked.values()]
        row = conn.execute(select(*counts).select_from(table(name, schema=schema))).one()
        for (of_column, what), count in zip(asked, row, strict=True):
            if count and what == _SEALED:
                unseen.append(f"{name}.{of_column}: encrypted")
            elif count:
                remains.append(Remains(where=f"{name}.{of_column}", what=what, count=count))
    # By name: each store tells its tables in an order of its own.
    found_here = sorted(remains, key=lambda one: (one.where, one.what))
    return looked_at, found_here + _rows_of_gone(conn, user_id)


def unvacuumed(conn: Connection, *, schema: str | None) -> int:
    """Return how many rows are gone whose bytes lie in files of the server, by its statistics."""
    if Capability.SCHEMAS not in capabilities_of(conn):
        return 0
    return int(execute(conn, _DEAD_ROWS, {"schema": schema}).scalar() or 0)


def _conditions(
    one: Any, user_id: str, words: Sequence[str]
) -> Iterator[tuple[str, ColumnElement[bool]]]:
    """Yield what of a column is counted: rows that hold the user's id, and that hold a word."""
    kind = str(one["type"]).upper()
    said: ColumnElement[Any] = column(one["name"])
    if kind.startswith(_IN_BYTES):
        as_hex = cast(said, Text) if kind == "BYTEA" else func.lower(func.hex(said))
        yield "word", _holding(as_hex, [word.encode().hex() for word in words])
        return
    if kind.startswith((*_IN_JSON, *_IN_LISTS)):
        said = cast(said if kind.startswith(_IN_JSON) else func.to_jsonb(said), Text)
        yield "id", _holding(said, _as_json(user_id))
        yield "word", _holding(said, [part for word in words for part in _within_json(word)])
        yield _SEALED, _holding(said, [f'"{PREFIX}'] if words else [])
    elif not kind.startswith(_WITHOUT_WORDS):
        # Words, and what nobody here knows: an enum, a domain, an extension's type.
        said = cast(said, Text)
        yield "id", said == user_id
        yield "word", _holding(said, words)
        yield _SEALED, said.startswith(PREFIX) if words else false()


def _holding(said: ColumnElement[Any], words: Sequence[str]) -> ColumnElement[bool]:
    if not words:
        return false()
    return or_(*(said.contains(word, autoescape=True) for word in dict.fromkeys(words)))


def _as_json(text: str) -> list[str]:
    """Return how a string stands in JSON, in either way of writing it."""
    return [json.dumps(text, ensure_ascii=ascii_only) for ascii_only in (False, True)]


def _within_json(word: str) -> list[str]:
    return [one[1:-1] for one in _as_json(word)]


def _rows_of_gone(conn: Connection, user_id: str) -> list[Remains]:
    """Return where rows are left of sessions that were the user's, and are gone."""
    found = []
    for one in BELONGINGS:
        if one.session is None or one.by_text or one.goes not in (Goes.BY_KEY, Goes.BY_NAME):
            continue
        left = select(func.count()).select_from(one.table)
        if count := conn.scalar(left.where(one.session.in_(gone_of(user_id)))):
            found.append(Remains(where=one.table.name, what="row", count=count))
    return found


_DEAD_ROWS = "SELECT sum(n_dead_tup) FROM pg_stat_user_tables WHERE schemaname = %(schema)s"
