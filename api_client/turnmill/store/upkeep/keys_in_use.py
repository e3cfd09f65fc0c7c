"""By which data keys anything in the tables is sealed."""

from collections.abc import Collection

from sqlalchemy import Connection, String, cast, func, select

from turnmill.crypto.envelope import ID_LENGTH, PREFIX
from turnmill.store.schema.secrecy import CONTENT


def keys_in_use(conn: Connection, ids: Collection[str]) -> set[str]:
    """Return by which of these keys a value is sealed. Every value of every column is looked at."""
    used: set[str] = set()
    for column in CONTENT:
        # Text begins with it, JSON with a quotation mark before it.
        value = func.ltrim(cast(column, String), '"')
        sealed = func.substr(value, 1, len(PREFIX)) == PREFIX
        key_id = func.substr(value, len(PREFIX) + 1, ID_LENGTH)
        used.update(conn.scalars(select(key_id).where(sealed).distinct()))
    return used & set(ids)
