"""By which data keys anything in the tables is sealed."""

from collections.abc import Collection

from sqlalchemy import Connection, String, cast, func, select

from turnmill.crypto.envelope import ID_LENGTH, PREFIX, SEALED_IN
from turnmill.store.schema.secrecy import BY_CHOICE, CONTENT


def keys_in_use(conn: Connection, ids: Collection[str]) -> set[str]:
    """Return by which of these keys a value is sealed. Every value of every column is looked at."""
    used: set[str] = set()
    columns = [cast(one, String) for one in CONTENT]
    columns += [one[SEALED_IN].as_string() for one in BY_CHOICE]
    for column in columns:
        # Text begins with it, JSON with a quotation mark before it.
        value = func.ltrim(column, '"')
        sealed = func.substr(value, 1, len(PREFIX)) == PREFIX
        key_id = func.substr(value, len(PREFIX) + 1, ID_LENGTH)
        used.update(conn.scalars(select(key_id).where(sealed).distinct()))
    return used & set(ids)
