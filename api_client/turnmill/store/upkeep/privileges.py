"""What the role of a connection may not do, and would have to."""

from sqlalchemy import Connection, text

from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.schema.grants import WITHHELD
from turnmill.store.schema.key_tables import metadata

_MISSING = text(
    """
    SELECT privilege || ' on ' || name
    FROM unnest(CAST(:tables AS text[])) AS name,
         unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
    WHERE to_regclass(format('%I.%I', CAST(:schema AS text), name)) IS NOT NULL
      AND NOT has_table_privilege(format('%I.%I', CAST(:schema AS text), name), privilege)
    ORDER BY name, privilege
    """
)


def missing_privileges(conn: Connection, schema: str | None) -> list[str]:
    """Return `INSERT on turns` and the like: what clients and workers do and this role may not."""
    if schema is None or Capability.SCHEMAS not in capabilities_of(conn):
        return []
    tables = [table.name for table in metadata.sorted_tables]
    found = conn.scalars(_MISSING, {"tables": tables, "schema": schema})
    withheld = {f"{one} on {table}" for table, kept in WITHHELD.items() for one in kept}
    return [one for one in found if one not in withheld]


def is_superuser(conn: Connection) -> bool:
    """Tell whether the role may do everything on the server, its files and programs included."""
    if Capability.SCHEMAS not in capabilities_of(conn):
        return False
    said: str | None = conn.scalar(text("SELECT current_setting('is_superuser')"))
    return said == "on"
