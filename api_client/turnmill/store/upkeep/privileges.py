"""What the role of a connection may not do, and would have to."""

from sqlalchemy import Connection, text

from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.schema.grants import PRODUCER_SEQUENCES, RUN_BY_RUNTIME, WITHHELD
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

_NOT_COUNTED = text(
    """
    SELECT 'USAGE on ' || c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind = 'S' AND c.relname = ANY(CAST(:sequences AS text[]))
      AND NOT has_sequence_privilege(c.oid, 'USAGE')
    ORDER BY 1
    """
)

_NOT_RUN = text(
    """
    SELECT 'EXECUTE on ' || p.proname
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = :schema AND p.proname = ANY(CAST(:functions AS text[]))
      AND NOT has_function_privilege(p.oid, 'EXECUTE')
    ORDER BY 1
    """
)
_HIDING = text(
    """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND row_security_active(c.oid)
    ORDER BY c.relname
    """
)


def missing_privileges(conn: Connection, schema: str | None) -> list[str]:
    """Return `INSERT on turns` and the like: what clients and workers do and this role may not."""
    if schema is None or Capability.SCHEMAS not in capabilities_of(conn):
        return []
    tables = [table.name for table in metadata.sorted_tables]
    found = conn.scalars(_MISSING, {"tables": tables, "schema": schema})
    withheld = {f"{one} on {table}" for table, kept in WITHHELD.items() for one in kept}
    not_run = conn.scalars(_NOT_RUN, {"schema": schema, "functions": [*RUN_BY_RUNTIME]})
    sequences = {"schema": schema, "sequences": [*PRODUCER_SEQUENCES]}
    not_counted = conn.scalars(_NOT_COUNTED, sequences)
    return [*(one for one in found if one not in withheld), *not_counted, *not_run]


def hiding_tables(conn: Connection, schema: str | None) -> list[str]:
    """Return the tables of which this role may not be shown all rows: by row level security."""
    if schema is None or Capability.SCHEMAS not in capabilities_of(conn):
        return []
    return [*conn.scalars(_HIDING, {"schema": schema})]


def is_superuser(conn: Connection) -> bool:
    """Tell whether the role may do everything on the server, its files and programs included."""
    if Capability.SCHEMAS not in capabilities_of(conn):
        return False
    said: str | None = conn.scalar(text("SELECT current_setting('is_superuser')"))
    return said == "on"
