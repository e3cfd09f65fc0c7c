"""What connections of a role begin with, kept by the server: for poolers that drop what we ask for.

Written by `turnmill migrate`. A SET of ours would stay with the pooler's connection, for others.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import Connection

from turnmill.store.dialing import PINNED, SETTINGS
from turnmill.store.schema_name import execute

_WANTED: Mapping[str, str] = MappingProxyType({**SETTINGS, **PINNED})

_OWN = """
SELECT lower(split_part(line, '=', 1))
FROM pg_db_role_setting
JOIN pg_roles ON pg_roles.oid = setrole
LEFT JOIN pg_database ON pg_database.oid = setdatabase
CROSS JOIN unnest(setconfig) AS line
WHERE rolname = %(role)s AND (setdatabase = 0 OR datname = current_database())
"""


def settle(conn: Connection, role: str = "") -> list[str]:
    """Write what the role lacks, in this database alone, and return the names of it.

    Without a role: for the one that is connected. What somebody has set for the role stays.
    """
    role = role or str(execute(conn, "SELECT current_user").scalar_one())
    database = str(execute(conn, "SELECT current_database()").scalar_one())
    own = set(execute(conn, _OWN, {"role": role}).scalars())
    missing = [name for name in _WANTED if name.lower() not in own]
    quoted = conn.dialect.identifier_preparer.quote_identifier
    for name in missing:
        conn.exec_driver_sql(
            f"ALTER ROLE {quoted(role)} IN DATABASE {quoted(database)}"
            f" SET {name} = '{_WANTED[name]}'"
        )
    return missing
