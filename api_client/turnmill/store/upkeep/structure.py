"""What of the tables is no more as migrations made it: by somebody's SQL, a dump, or a copy."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects import postgresql

from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.schema.erasure_tables import BANNED_IN
from turnmill.store.schema.grants import PRODUCER_SEQUENCES, VIEWS
from turnmill.store.schema.house_tables import announcements
from turnmill.store.schema.key_tables import metadata
from turnmill.store.schema.roles import FUNCTIONS

#: Which triggers each table has: those of a log that nobody changes, and of users who are erased.
TRIGGERS = (
    *((table, "keep") for table in ("audit_log", "audit_heads")),
    *((table, "keep_whole") for table in ("audit_log", "audit_heads")),
    *((table, "audit_at_now") for table in ("audit_log", "audit_heads")),
    ("audit_log", "audit_in_place"),
    *((table, "refuse_erased") for table in BANNED_IN),
)

_THERE = text(
    """
    WITH ours AS (
        SELECT c.oid, c.relname, c.relkind FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema
    )
    SELECT 'table', relname FROM ours WHERE relkind IN ('r', 'p')
    UNION ALL SELECT 'view', relname FROM ours WHERE relkind = 'v'
    UNION ALL
    SELECT 'index', o.relname || '.' || c.relname FROM pg_index i JOIN ours o ON o.oid = i.indrelid
        JOIN pg_class c ON c.oid = i.indexrelid
    UNION ALL
    SELECT 'column', o.relname || '.' || a.attname FROM pg_attribute a JOIN ours o
        ON o.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraint', o.relname || '.' || k.conname FROM pg_constraint k JOIN ours o
        ON o.oid = k.conrelid
    UNION ALL
    SELECT 'trigger', o.relname || '.' || t.tgname FROM pg_trigger t JOIN ours o
        ON o.oid = t.tgrelid
    UNION ALL
    SELECT 'function', p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = :schema
    """
)

# Those that hold foreign keys are Postgres's own, two at either table.
_OFF = text(
    """
    SELECT DISTINCT c.relname, CASE WHEN t.tgisinternal THEN NULL ELSE t.tgname END
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND t.tgenabled NOT IN ('O', 'A')
    ORDER BY 1, 2 NULLS FIRST
    """
)
_INVALID = text(
    """
    SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND NOT (i.indisvalid AND i.indisready) ORDER BY 1
    """
)
_UNLOGGED = text(
    """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind = 'r' AND c.relpersistence = 'u' ORDER BY 1
    """
)
_OWNERS = text(
    """
    SELECT pg_get_userbyid(owner) FROM (
        SELECT relowner, relname::text FROM pg_class
            WHERE relnamespace = CAST(quote_ident(:schema) AS regnamespace)
            AND relkind IN ('r', 'v', 'S')
        UNION ALL
        SELECT proowner, proname::text FROM pg_proc
            WHERE pronamespace = CAST(quote_ident(:schema) AS regnamespace)
    ) AS found (owner, name)
    WHERE name = ANY(CAST(:names AS text[])) GROUP BY owner ORDER BY count(*) DESC, 1
    """
)
_SEQUENCES = text(
    """
    SELECT t.relname, a.attname, s.relname,
        has_sequence_privilege(s.oid, 'SELECT') AND has_column_privilege(t.oid, a.attnum, 'SELECT')
    FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
    WHERE n.nspname = :schema AND s.relname = ANY(CAST(:sequences AS text[])) ORDER BY 1
    """
)


_LAST = """
SELECT (SELECT max({column}) FROM "{schema}".{table}),
    (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM "{schema}".{sequence})
"""

#: Of parts that are gone, so many are named.
_NAMED = 3

#: Whose names are those of indexes.
_INDEXED = ("index", "constraint")

_NAMES = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it was made, and the SQL that makes it so again."""

    what: str
    code: str
    fix: str


def damages(conn: Connection, schema: str | None) -> Iterator[Damage]:
    """Yield what is not as migrations made it: for a schema of this version's newest revision.

    What else stands in the schema is somebody's own.
    """
    if schema is None or Capability.SCHEMAS not in capabilities_of(conn):
        return
    yield from _lost(conn, schema)
    yield from _switched_off(conn, schema)
    yield from _half_made(conn, schema)
    yield from _of_several(conn, schema)
    yield from _behind(conn, schema)


def expected() -> Iterator[tuple[str, str]]:
    """Yield what stands in the schema, kind and name; what is of a table with its name before."""
    for table in metadata.sorted_tables:
        yield from _of_table(table)
    yield from (("trigger", f"{table}.{name}") for table, name in TRIGGERS)
    yield from (("function", name) for name in FUNCTIONS)
    yield from (("view", name) for name in VIEWS)


def _of_table(table: Table) -> Iterator[tuple[str, str]]:
    yield "table", table.name
    yield from (("column", f"{table.name}.{column.name}") for column in table.columns)
    for constraint in table.constraints:
        yield "constraint", f"{table.name}.{_NAMES.format_constraint(constraint)}"
    for index in table.indexes:
        yield "index", f"{table.name}.{_NAMES.format_index(index)}"


def _lost(conn: Connection, schema: str) -> Iterator[Damage]:
    there = {(kind, name) for kind, name in conn.execute(_THERE, {"schema": schema})}
    gone = {name for kind, name in expected() if kind == "table" and (kind, name) not in there}
    lost = [
        f"{kind} {name}"
        for kind, name in expected()
        if (kind, name) not in there and (kind == "table" or name.partition(".")[0] not in gone)
    ]
    if lost:
        others = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        yield Damage(
            f"not there any more: {', '.join(lost[:_NAMED])}{others}",
            "part_lost",
            "make it anew: pg_dump --schema-only of an empty database that was migrated says how",
        )


def _switched_off(conn: Connection, schema: str) -> Iterator[Damage]:
    if conn.scalar(text("SELECT current_setting('session_replication_role')")) == "replica":
        yield Damage(
            "neither foreign keys nor triggers hold for its role",
            "triggers_off",
            "RESET session_replication_role, by ALTER ROLE or ALTER DATABASE",
        )
    ours = {*TRIGGERS}
    for table, trigger in conn.execute(_OFF, {"schema": schema}):
        alter = f'ALTER TABLE "{schema}".{table} ENABLE TRIGGER'
        if trigger is None:
            what, fix = f"foreign keys of {table} do not hold", f"{alter} ALL, as a superuser"
            yield Damage(what, "triggers_off", fix)
        elif (table, trigger) in ours:
            what = f"trigger {trigger} of {table} is disabled"
            yield Damage(what, "triggers_off", f"{alter} {trigger}, as the owner")


def _half_made(conn: Connection, schema: str) -> Iterator[Damage]:
    """Yield indexes of a statement that did not come to its end, and tables not kept in a crash."""
    indexes = {name.rpartition(".")[2] for kind, name in expected() if kind in _INDEXED}
    for name in conn.scalars(_INVALID, {"schema": schema}):
        if name in indexes:
            fix = f'REINDEX INDEX CONCURRENTLY "{schema}".{name}, as the owner'
            yield Damage(f"index {name} is not valid: nothing is found by it", "index_invalid", fix)
    kept = {table.name for table in metadata.sorted_tables} - {announcements.name}
    for name in conn.scalars(_UNLOGGED, {"schema": schema}):
        if name in kept:
            fix = f'ALTER TABLE "{schema}".{name} SET LOGGED, as the owner'
            yield Damage(f"table {name} is unlogged: a crash empties it", "unlogged", fix)


def _of_several(conn: Connection, schema: str) -> Iterator[Damage]:
    names = [name for kind, name in expected() if kind in ("table", "view", "function")]
    owners = [*conn.scalars(_OWNERS, {"schema": schema, "names": names})]
    if len(owners) > 1:
        yield Damage(
            f"it belongs to {', '.join(owners)}: the next migration may not change all of it",
            "owners",
            "turnmill roles, which hands all of it to one; or ALTER … OWNER TO, as a superuser",
        )


def _behind(conn: Connection, schema: str) -> Iterator[Damage]:
    """Yield sequences that would give what stands already: a logical replica knows none."""
    asked = {"schema": schema, "sequences": [*PRODUCER_SEQUENCES]}
    for table, column, sequence, may_look in conn.execute(_SEQUENCES, asked).all():
        if not may_look:
            continue
        names = {"schema": schema, "table": table, "column": column, "sequence": sequence}
        last, given = conn.execute(text(_LAST.format(**names))).one()
        if last is not None and last > given:
            fix = f"SELECT setval('\"{schema}\".{sequence}', {last}), as the owner"
            what = f"the next numbers of {sequence} are taken: nothing is written into {table}"
            yield Damage(what, "sequence_behind", fix)
